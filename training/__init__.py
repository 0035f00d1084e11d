"""Training: warehouse table to extract, extract to artifact."""
