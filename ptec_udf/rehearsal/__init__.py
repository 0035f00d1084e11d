"""What a night would do, tried on a sample before it."""
