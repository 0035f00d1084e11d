"""The engine: texts to logits, in plain Python and inside Spark."""
