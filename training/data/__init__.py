"""Training extracts: taken from the warehouse, read, split and tokenised."""
