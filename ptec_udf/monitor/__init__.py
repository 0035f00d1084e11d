"""Drift, failures and housekeeping of the tables."""
