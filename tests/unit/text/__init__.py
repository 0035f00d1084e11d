"""Unit tests of ptec_udf.text."""
