"""A scoring run: diff, score into staging, merge, explain, record."""
