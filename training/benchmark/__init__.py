"""``ptec benchmark``: methods side by side on one extract."""
