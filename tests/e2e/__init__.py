"""Commands end to end, as a person runs them."""
