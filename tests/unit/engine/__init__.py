"""Unit tests of ptec_udf.engine."""
