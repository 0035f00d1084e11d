"""The warehouse: session, tables, sources, registered models and views."""
