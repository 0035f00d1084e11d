"""The night: what is new, scored into staging, merged, explained and recorded."""
