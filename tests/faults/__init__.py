"""Nights that are killed, and what their reruns come to."""
