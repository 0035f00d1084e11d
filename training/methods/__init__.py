"""Ways to learn labels from texts, side by side under one interface: see ``method.py``."""
