"""The commands: one thin script per step, and the command line ``ptec``."""
