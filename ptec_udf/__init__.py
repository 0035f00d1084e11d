"""All that a Spark executor needs to score company texts; imports neither ``training`` nor ``jobs``."""

__version__ = "0.1.0"
