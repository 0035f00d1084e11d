"""Table ``runs``: what earlier runs did, and the row of this run."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import Row
from pyspark.sql import functions as F

from ptec_udf.warehouse.tables import Warehouse

RUNNING, DONE, NOTHING, SUPERSEDED = "running", "done", "nothing_to_do", "superseded"
FAILED, INTERRUPTED = "failed", "interrupted"
NULL_KEY = "null_key"  # rows without a key, in the counts of a run


def new_run_id(model_id: str, source_id: str, source_version: int | None, *, alias: str | None, text_id: str) -> str:
    """Name an attempt: a hash of what the run does, which all attempts share, and a random part."""
    facts = "|".join([model_id, alias or "", source_id, str(source_version), text_id])
    return f"{hashlib.sha256(facts.encode()).hexdigest()[:12]}-{secrets.token_hex(3)}"


@dataclass(frozen=True)
class History:
    """Runs in the order of their start."""

    rows: list[Row]

    @classmethod
    def read(cls, warehouse: Warehouse) -> History:
        """Read all runs."""
        runs = warehouse.read("runs").orderBy("started")  # by Spark: local times repeat when clocks change
        return cls(runs.collect())

    def next_start(self, now: datetime) -> datetime:
        """Return ``now``, or a moment after the last start if another machine's clock is ahead."""
        newest = max((row["started"].timestamp() for row in self.rows), default=0)
        return max(now, datetime.fromtimestamp(newest, UTC) + timedelta(microseconds=1))

    def done(self, **facts: Any) -> list[Row]:
        """Return the runs with outcome ``done`` and these values."""
        wanted = facts | {"outcome": DONE}
        return [row for row in self.rows if all(row[name] == value for name, value in wanted.items())]

    def last_done(self, **facts: Any) -> Row | None:
        """Return the last of ``done``."""
        return next(reversed(self.done(**facts)), None)

    def last_shown(self, *, alias: str | None, model_id: str) -> Row | None:
        """Return the last run that wrote what a screen shows: of the alias, or of the model without an alias."""
        return self.last_done(alias=alias) if alias else self.last_done(alias=None, model_id=model_id)

    def unfinished(self, *, alias: str | None, model_id: str, except_for: str) -> list[Row]:
        """Return the runs of a model or alias that have not closed their own row, but one."""
        return [
            row
            for row in self.rows
            if row["outcome"] in (RUNNING, INTERRUPTED)
            and row["run_id"] != except_for
            and (row["model_id"] == model_id or (alias is not None and row["alias"] == alias))
        ]

    def newest_version(self, model_id: str, source_id: str) -> int:
        """Return the newest version of a source that a model was run on; -1 without one."""
        versions = [row["source_version"] for row in self.done(model_id=model_id, source_id=source_id)]
        return max((version for version in versions if version is not None), default=-1)

    def measured(self, *, alias: str | None, model_id: str) -> list[Row]:
        """Return the runs whose drift was measured, the newest last; of several on one source version the first."""
        runs: dict[tuple[str, int], Row] = {}
        for row in self.done(alias=alias, model_id=model_id):
            if row["drifted"] is not None:
                runs.setdefault((row["source_id"], row["source_version"]), row)
        return list(runs.values())

    def has_failed(self, *, alias: str | None, model_id: str) -> bool:
        """Return whether the newest run of an alias and a model that ended has failed."""
        outcomes = [row["outcome"] for row in self.rows if (row["alias"], row["model_id"]) == (alias, model_id)]
        return [outcome for outcome in outcomes if outcome != RUNNING][-1:] == [FAILED]


@dataclass
class RunRecord:
    """The row of table ``runs``, completed as the run proceeds."""

    run_id: str
    config: str
    source_id: str
    source_name: str
    source_version: int | None
    table_id: str
    text_id: str
    model_id: str
    alias: str | None
    started: datetime
    corrections_version: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    reused: int = 0
    tokens: int = 0
    padding: float | None = None
    rows_per_second: float | None = None
    dtype: str | None = None
    drifted: list[str] | None = None
    retrain: bool | None = None
    outcome: str = RUNNING
    error: str | None = None
    ended: datetime | None = None

    @classmethod
    def of_row(cls, row: Row) -> RunRecord:
        """Return the record of an earlier run."""
        values = row.asDict() | {"started": row["started"].astimezone(UTC), "counts": dict(row["counts"] or {})}
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})

    def count_written(self, warehouse: Warehouse, version: int) -> None:
        """Count the rows that the run wrote, in a version of ``scores``, and the tokens that its attempts scored."""
        is_of_run = (F.col("model_id") == self.model_id) & (F.col("run_id") == self.run_id)
        status = F.when(F.col("removed_in").isNotNull(), F.lit("removed")).otherwise(F.col("status"))
        written = warehouse.read("scores", version).where(is_of_run).groupBy(status.alias("status")).count()
        self.counts |= {row["status"]: row["count"] for row in written.collect()}
        is_of_attempts = F.col("run_id").startswith(self.run_id.rpartition("-")[0] + "-")
        staged = warehouse.read("score_staging").where(is_of_attempts)
        sums = staged.agg(F.sum("n_tokens").alias("tokens"), F.sum("batch_positions").alias("positions")).first()
        if sums and sums["tokens"]:
            self.tokens = sums["tokens"]
            self.padding = round(1 - sums["tokens"] / sums["positions"], 4)

    def close(self, warehouse: Warehouse, outcome: str, error: str | None = None) -> dict[str, Any]:
        """Write how the run ended and return the row as the command's result."""
        self.outcome, self.error, self.ended = outcome, error, max(datetime.now(UTC), self.started)
        values = asdict(self)
        warehouse.replace_run("runs", [values], self.run_id)
        values.pop("config")
        return values | {name: values[name].isoformat(timespec="seconds") for name in ("started", "ended")}
