"""From a start to trained parameters: the loop and its parts."""
