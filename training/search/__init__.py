"""``ptec search``: settings of a training, chosen on validation."""
