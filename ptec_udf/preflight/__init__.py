"""Checks before a run: equal scores, expected duration."""
