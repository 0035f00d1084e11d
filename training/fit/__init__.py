"""Training of prompt, head and adapters."""
