"""One training: from inputs to trained networks."""
