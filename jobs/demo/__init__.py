"""The demo: shipped fictional companies and the script that takes them through every step."""
