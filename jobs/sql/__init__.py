"""``ptec sql``: statements on the warehouse, answered by DuckDB or by Spark."""
