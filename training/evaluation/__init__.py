"""Champion and challenger on the same held-out rows, and the gate between them."""
