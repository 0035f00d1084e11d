"""Training extracts."""
