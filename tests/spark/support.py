"""A site for tests on Spark: a source table, tiny registered models, and runs on them.

Only this module and ``conftest.py`` know how a session, a warehouse and a registered model are made. Tests use
``Site``: SQL on the public tables and views, the nightly run, and the command line.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyspark.sql import Row, SparkSession

from ptec_udf.config import ScoreConfig
from ptec_udf.nightly.run import score
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.embedded import FOLDER_SETTING
from ptec_udf.warehouse.tables import Warehouse
from tests.site import load_config
from tests.tiny import tiny_artifact, tiny_companies

SOURCE_SCHEMA = "key string, name string, about string"
_TIMES = ("scored_at", "changed_at", "started", "ended")

SourceRow = tuple[str | None, str | None, str | None]
"""Key, name and about of a company."""


def clear_log_cache(spark: SparkSession) -> None:
    """Let Delta read the logs again, after files were changed by hand."""
    assert spark._jvm is not None
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


@dataclass
class Site:
    """A warehouse with a source table, and models that are made on request.

    Attributes:
        warehouse: the project's tables.
        folder: for artifacts.
        overrides: settings of every run.
    """

    warehouse: Warehouse
    folder: Path
    overrides: list[str] = field(default_factory=list)

    @property
    def spark(self) -> SparkSession:
        return self.warehouse.spark

    @property
    def database(self) -> str:
        return self.warehouse.database

    @property
    def table(self) -> str:
        """Name of the source table."""
        return f"{self.database}.companies"

    def sql(self, query: str) -> list[Row]:
        """Run a query in which ``{db}`` is the database."""
        return self.spark.sql(query.replace("{db}", self.database)).collect()

    def location(self, table: str) -> Path:
        """Folder of a table."""
        return Path(self.sql(f"DESCRIBE DETAIL {{db}}.{table}")[0]["location"].removeprefix("file:"))

    def rows(self, table: str) -> list[Any]:
        """All rows of a table without its time columns, in a fixed order."""
        frame = self.spark.table(f"{self.database}.{table}")
        names = [name for name in frame.columns if name not in _TIMES]
        return sorted((tuple(map(_plain, row)) for row in frame.select(*names).collect()), key=repr)

    def scores(self) -> dict[str, Row]:
        """Rows of the scores table by key."""
        return {row["key"]: row for row in self.sql("SELECT * FROM {db}.scores")}

    def labels(self, view: str = "current_scores") -> dict[str, set[str]]:
        """Labels of every company that a view shows."""
        return {row["key"]: set(row["labels"]) for row in self.sql(f"SELECT key, labels FROM {{db}}.{view}")}

    def changes(self, run_id: str) -> set[tuple[str, str, bool, str]]:
        """Key, label, entered and reason of a run's changes."""
        rows = self.sql(f"SELECT key, label, entered, reason FROM {{db}}.score_changes WHERE run_id = '{run_id}'")
        assert len(set(rows)) == len(rows)  # nothing twice
        return {tuple(row) for row in rows}

    def write(self, rows: Iterable[SourceRow]) -> None:
        """Replace the source's rows: a new version of it."""
        frame = self.spark.createDataFrame(list(rows), SOURCE_SCHEMA)
        frame.write.format("delta").mode("overwrite").saveAsTable(self.table)

    def model(self, seed: int = 0) -> str:
        """Register a tiny model; another seed gives other scores."""
        return self.register(tiny_artifact(self.folder, "bert", "deep", seed=seed), f"tiny-{seed}")

    def register(self, artifact: Path, name: str = "tiny") -> str:
        """Register an artifact."""
        return registry.register(self.warehouse, artifact, self.folder / "keep", name)

    def promote(self, model_id: str, alias: str = "champion") -> None:
        """Promote a model without a gate."""
        registry.promote(self.warehouse, model_id, alias=alias, who="test", why="", check=lambda *_: None)

    def champion(self, seed: int = 0) -> str:
        """Register and promote a tiny model."""
        model_id = self.model(seed)
        self.promote(model_id)
        return model_id

    def correct(self, *corrections: tuple[str, str, bool]) -> None:
        """Write corrections (key, label, is_true) as an analyst does."""
        values = ", ".join(
            f"('{key}', '{label}', {is_true}, 'test', now(), NULL)" for key, label, is_true in corrections
        )
        self.sql(f"INSERT INTO {{db}}.corrections (key, label, is_true, who, at, why) VALUES {values}")

    def config(self, *overrides: str) -> ScoreConfig:
        """Make the configuration of a run."""
        mine = [f"warehouse.database={self.database}", f"source.table={self.table}", *RUN_SETTINGS]
        return load_config(ScoreConfig, None, [*mine, *self.overrides, *overrides])

    def run(self, *overrides: str) -> dict[str, Any]:
        """Run the nightly job once; return its row."""
        return score(self.spark, self.config(*overrides))


ANY_ERRORS, MAX_REMOVED = "run.max_error_fraction=1", "run.max_removed_fraction"
RETRY_ERRORS = "run.retry_errors=true"
SMALL_COMMITS = ("run.tokens_per_second=30", "run.task_seconds=10", "run.commit_minutes=0.001")
"""Settings with which a run of some hundred texts makes several staging commits."""

RUN_SETTINGS = ("source.key=key", "engine.dtype=float32", "drift.measure=false")
"""Of every run. Measuring drift takes a third of a small run: tests of drift switch it on."""


def companies(n: int = 60) -> list[SourceRow]:
    """Made-up source rows; the last ten repeat the texts of the first ten."""
    rows = [(company["key"], company["name"], company["about"]) for company in tiny_companies(n)]
    repeated = [(f"twin-{key}", name, about) for key, name, about in rows[:10]]
    return rows + repeated


def changed_companies(n: int = 60) -> list[SourceRow]:
    """The same companies, later: c0000 has another text, c0005 was removed, fresh is new."""
    first, *others = companies(n)
    kept = [row for row in others if row[0] != "c0005"]
    return [(first[0], "other", "text about other things"), *kept, ("fresh", "fresh", "a new one")]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def warehouse_section(site: Site) -> dict[str, str]:
    """The section of a configuration with which a command of this process uses the site."""
    folder = str(site.spark.conf.get(FOLDER_SETTING))
    return {"folder": folder, "database": site.database, "artifacts": str(site.folder / "keep")}
