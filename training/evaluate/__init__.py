"""Metrics, comparison and the gate."""
