"""Measurements of scoring, each against something else in the same run. They need the environment of ``make test``."""
