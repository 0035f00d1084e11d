"""Unit tests of ptec_udf.model."""
