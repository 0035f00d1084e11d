"""Commands end to end, as a person gives them."""
