"""Metrics, the paired comparison of two models on held-out rows, and the gate of a promotion."""
