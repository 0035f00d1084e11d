"""Nights on tiny models: what the tests of the nightly flow share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from ptec_udf.config import ScoreConfig
from ptec_udf.config_file import load_config
from ptec_udf.nightly import run as nightly_score
from ptec_udf.nightly.run import score
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse
from tests.tiny import tiny_artifact, tiny_companies

SCHEMA = "key string, name string, about string"


@dataclass
class Site:
    """A warehouse with a source table, and models as they are wanted."""

    warehouse: Warehouse
    folder: Path
    overrides: list[str] = field(default_factory=list)

    @property
    def spark(self) -> SparkSession:
        return self.warehouse.spark

    @property
    def table(self) -> str:
        return f"{self.warehouse.database}.companies"

    def write(self, rows: list[tuple[Any, ...]]) -> None:
        """Replace the source's rows: a new version of it."""
        frame = self.spark.createDataFrame(rows, SCHEMA)
        frame.write.format("delta").mode("overwrite").saveAsTable(self.table)

    def model(self, seed: int = 0) -> str:
        """Register a tiny model; another seed gives other scores."""
        artifact = tiny_artifact(self.folder, "bert", "deep", seed=seed)
        return registry.register(self.warehouse, artifact, self.folder / "keep", f"tiny-{seed}")

    def champion(self, seed: int = 0) -> str:
        """Register and promote a tiny model."""
        model_id = self.model(seed)
        registry.promote(self.warehouse, model_id, alias="champion", who="test", why="", check=lambda *_: None)
        return model_id

    def correct(self, *said: tuple[str, str, bool]) -> None:
        """Let an analyst say of companies whether they have a label."""
        rows = [{"key": key, "label": label, "is_true": is_true} for key, label, is_true in said]
        self.warehouse.append_rows("corrections", [row | {"at": datetime.now(UTC)} for row in rows])

    def config(self, *overrides: str) -> ScoreConfig:
        """Make the configuration of a night."""
        mine = [
            f"warehouse.database={self.warehouse.database}",
            f"source.table={self.table}",
            "source.key=key",
            "slice_texts=40",
            "engine.dtype=float32",
            "drift.measure=false",  # a third of a small night; where it matters it is switched on
        ]
        return load_config(ScoreConfig, None, [*mine, *self.overrides, *overrides])

    def night(self, *overrides: str) -> dict[str, Any]:
        """Run one night."""
        return score(self.spark, self.config(*overrides))

    def rows(self, table: str) -> list[Any]:
        """All rows of a table of ours, without the columns that hold times."""
        frame = self.warehouse.read(table)
        names = [name for name in frame.columns if name not in ("scored_at", "changed_at", "started", "ended")]
        return sorted((tuple(map(_plain, row)) for row in frame.select(*names).collect()), key=repr)

    def scores(self) -> dict[str, Any]:
        """Rows of the scores table by key."""
        return {row["key"]: row for row in self.warehouse.read("scores").collect()}


def companies(n: int = 60) -> list[tuple[Any, ...]]:
    """Made-up source rows; the last ten repeat the texts of the first ten."""
    rows = [(company["key"], company["name"], company["about"]) for company in tiny_companies(n)]
    repeated = [(f"twin-{key}", name, about) for key, name, about in rows[:10]]
    return rows + repeated


def changed_companies(n: int = 60) -> list[tuple[Any, ...]]:
    """The same a night later: c0000 has another text, c0005 is gone, fresh is new."""
    first, *others = companies(n)
    kept = [row for row in others if row[0] != "c0005"]
    return [(first[0], "other", "text about other things"), *kept, ("fresh", "fresh", "a new one")]


def kill_after_merge(site: Site, *overrides: str) -> None:
    """Run a night that ends as a killed process does, after its MERGE and all else that comes before its row."""
    work = nightly_score._run

    def work_and_die(*args: Any) -> None:
        work(*args)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nightly_score, "_run", work_and_die)
        with pytest.raises(KeyboardInterrupt):
            site.night(*overrides)


def before_writing(patch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Let something happen once, between a night's scoring and its first write of scores."""
    write, todo = nightly_score.write, [act]

    def later(*args: Any, **kwargs: Any) -> None:
        if todo:
            todo.pop()()
        write(*args, **kwargs)

    patch.setattr(nightly_score, "write", later)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
