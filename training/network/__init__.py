"""What is trained beside the frozen backbone, and the values that it starts from."""
