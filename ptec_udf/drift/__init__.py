"""Whether what is scored is still like what the model was trained on, and like what nights before it scored."""
