"""Methods of ``ptec benchmark`` under one interface, see ``method.py``."""
