"""Settings with which Spark is done with a few rows soonest."""

from __future__ import annotations

# Queries over a few rows are done before their code is compiled.
NO_CODEGEN = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}

QUICK = {"spark.sql.shuffle.partitions": 2, **NO_CODEGEN}
