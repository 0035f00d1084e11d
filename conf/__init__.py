"""Shipped settings, importable as ``ptec_conf``, so that an installed wheel contains them."""
