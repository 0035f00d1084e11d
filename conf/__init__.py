"""Shipped configurations, importable as ``ptec_conf`` so that an installed wheel carries them too."""
