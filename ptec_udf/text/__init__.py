"""Company rows to texts."""
