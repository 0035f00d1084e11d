"""What earlier runs did, and the row that this one leaves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Row
from pyspark.sql import functions as F

from ptec_udf.log import logger
from ptec_udf.warehouse.source import PinnedSource
from ptec_udf.warehouse.tables import Warehouse

COMMAND = "score"
ESTIMATE = "estimate"
DONE, NOTHING, SUPERSEDED, FAILED = "done", "nothing_to_do", "superseded", "failed"
NULL_KEY = "null_key"
"""Rows without a key, in the counts of a run."""
SKIPPED = "skipped"  # a shadow without a model of its own
_CLOCKS_DIFFER = timedelta(minutes=10)


@dataclass(frozen=True)
class History:
    """Earlier runs of the score command, in the order of their beginnings.

    Not of their ends: a long night of a model that was champion may end after nights of the one that is.
    """

    rows: list[Row]
    estimates: list[Row] = field(default_factory=list)

    @classmethod
    def read(cls, warehouse: Warehouse) -> History:
        """Read the few columns that decide what a night has to do, and what was estimated before it."""
        columns = ("command", "run_id", "outcome", "source_id", "source_name", "source_version", "text_id", "model_id")
        facts = ("alias", "started", "estimated_seconds", "corrections_version", "drifted", "source_fingerprint")
        runs = warehouse.read("runs").select(*columns, *facts)
        # Not sorted here, by local times, which come twice in the hour that a clock is put back.
        rows = runs.orderBy("started").collect()
        return cls(*[[row for row in rows if row["command"] == command] for command in (COMMAND, ESTIMATE)])

    def after(self, now: datetime) -> datetime:
        """Return when a run begins, later than all before it, whatever the clocks of their machines said."""
        begun = [row["started"].timestamp() for row in [*self.rows, *self.estimates]]
        newest = datetime.fromtimestamp(max(begun, default=0), UTC)
        if newest - now > _CLOCKS_DIFFER:
            logger.warning(f"a run of {newest:%Y-%m-%d %H:%M} is on record, later than now: this one is put after it")
        return max(now, newest + timedelta(microseconds=1))

    def has_failed_as(self, run_id: str) -> bool:
        """Tell whether a run of this name failed."""
        return any((row["run_id"], row["outcome"]) == (run_id, FAILED) for row in self.rows)

    def last_done(self, *, alias: str | None, model_id: str) -> Row | None:
        """Return the last run that wrote what this screen shows: by alias, or by model where none is used."""
        if alias:
            return self._last(lambda row: row["alias"] == alias)
        return self._last(lambda row: row["alias"] is None and row["model_id"] == model_id)

    def last_of_model(self, model_id: str) -> Row | None:
        """Return the last run that wrote scores of a model."""
        return self._last(lambda row: row["model_id"] == model_id)

    def last_of_source(self, name: str) -> Row | None:
        """Return the last run that wrote scores of a source, by its name."""
        return self._last(lambda row: row["source_name"] == name)

    def of_others_since(self, last: Row | None) -> list[Row]:
        """Return later runs by another name that wrote scores of that run's model: what they changed is told there."""
        if last is None:
            return []
        later = self.rows[self.rows.index(last) + 1 :]
        done = [row for row in later if (row["outcome"], row["model_id"]) == (DONE, last["model_id"])]
        return [row for row in done if row["alias"] != last["alias"]]

    def newest_version(self, model_id: str, source_id: str) -> int | None:
        """Return the newest version of a source that a model's scores have seen."""
        versions = [
            row["source_version"]
            for row in self.rows
            if row["outcome"] == DONE and row["model_id"] == model_id and row["source_id"] == source_id
        ]
        return max(versions, default=None)

    def measured(self, *, alias: str | None, model_id: str) -> list[Row]:
        """Return the nights of an alias and a model whose drift was measured, newest last.

        Of several runs on a version of the source the first alone is a night: those after it try errors again, or
        take in corrections.
        """
        nights: dict[tuple[str, int], Row] = {}
        for row in self.rows:
            is_of_model = (row["alias"], row["model_id"]) == (alias, model_id)
            if is_of_model and row["outcome"] == DONE and row["drifted"] is not None:
                nights.setdefault((row["source_id"], row["source_version"]), row)
        return list(nights.values())

    def has_failed(self, *, alias: str | None, model_id: str) -> bool:
        """Tell whether the newest run of an alias and a model failed."""
        outcomes = [row["outcome"] for row in self.rows if (row["alias"], row["model_id"]) == (alias, model_id)]
        return outcomes[-1:] == [FAILED]

    def estimates_of(self, run_id: str) -> list[Row]:
        """Return what was estimated of a run, newest last."""
        return [row for row in self.estimates if row["run_id"].startswith(f"{run_id}-{ESTIMATE}-")]

    def run_id(
        self, *, model_id: str, alias: str | None, source: PinnedSource, text_id: str, retries_errors: bool
    ) -> str:
        """Name a run by what it does and how often that was done before.

        A night that was killed, or failed, left no row of success: its rerun has the same name, and so
        rewrites what it left in place of doubling it.
        """
        name = run_name(model_id=model_id, alias=alias, source=source, text_id=text_id, retries_errors=retries_errors)
        ended = [
            row["run_id"] for row in self.rows if row["outcome"] != FAILED and row["run_id"].startswith(f"{name}-")
        ]
        # Not their number: housekeeping removes rows, and no name is to be given twice.
        return f"{name}-{max((int(run_id.rpartition('-')[2]) for run_id in ended), default=0) + 1}"

    def _last(self, fits: Any) -> Row | None:
        return next((row for row in reversed(self.rows) if row["outcome"] == DONE and fits(row)), None)


def run_name(*, model_id: str, alias: str | None, source: PinnedSource, text_id: str, retries_errors: bool) -> str:
    """Hash what a run does: the first part of its run_id.

    A retry has a name of its own: under that of the night that it follows it would replace that night's changes.
    """
    facts = "|".join([model_id, alias or "", source.source_id, str(source.version), text_id])
    if retries_errors:
        facts += "|retries"
    return hashlib.sha256(facts.encode()).hexdigest()[:12]


@dataclass
class RunRecord:
    """The row of the runs table, filled in as the night goes."""

    run_id: str
    config: str
    source: PinnedSource
    text_id: str
    model_id: str
    alias: str | None
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    counts: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    reused: int = 0
    tokens: int = 0
    padding: float | None = None
    rows_per_second: float | None = None
    dtype: str | None = None
    estimated_seconds: float | None = None
    corrections_version: int | None = None
    drifted: list[str] | None = None
    retrain: bool | None = None
    command: str = COMMAND

    @property
    def has_written(self) -> bool:
        """Whether scores of this run stand, once they are counted."""
        return bool(self.counts.keys() - {NULL_KEY})

    def count_written(self, warehouse: Warehouse) -> None:
        """Count what stands after MERGE, which another process can do as well as the one that merged."""
        of_run = (F.col("model_id") == self.model_id) & (F.col("run_id") == self.run_id)
        status = F.when(F.col("removed_in").isNotNull(), F.lit("removed")).otherwise(F.col("status"))
        written = warehouse.read("scores").where(of_run).groupBy(status.alias("status")).count()
        self.counts |= {row["status"]: row["count"] for row in written.collect()}
        staged = warehouse.read("score_staging").where(of_run)
        sums = staged.agg(F.sum("n_tokens").alias("tokens"), F.sum("batch_positions").alias("positions")).first()
        if sums and sums["tokens"]:
            self.tokens = sums["tokens"]
            self.padding = round(1 - sums["tokens"] / sums["positions"], 4)

    def write(self, warehouse: Warehouse, outcome: str, error: str | None = None) -> dict[str, Any]:
        """Append the row and return it as the command's result."""
        values: dict[str, Any] = {
            "run_id": self.run_id,
            "command": self.command,
            "config": self.config,
            "source_id": self.source.source_id,
            "source_name": self.source.name,
            "source_version": self.source.version,
            "source_fingerprint": self.source.fingerprint,
            "text_id": self.text_id,
            "model_id": self.model_id,
            "alias": self.alias,
            "counts": self.counts,
            "skipped": self.skipped,
            "reused": self.reused,
            "tokens": self.tokens,
            "padding": self.padding,
            "rows_per_second": self.rows_per_second,
            "started": self.started,
            "ended": max(datetime.now(UTC), self.started),
            "outcome": outcome,
            "error": error,
            "dtype": self.dtype,
            "estimated_seconds": self.estimated_seconds,
            "corrections_version": self.corrections_version,
            "drifted": self.drifted,
            "retrain": self.retrain,
        }
        warehouse.append_rows("runs", [values])
        values.pop("config")
        return values | {name: values[name].isoformat(timespec="seconds") for name in ("started", "ended")}

    def write_failed(self, warehouse: Warehouse, error: str) -> None:
        """Append the row of a failure, unless what failed is Spark itself: then the failure is what is told."""
        try:
            self.write(warehouse, FAILED, error)
        except (PySparkException, Py4JError, OSError):
            logger.warning(f"run {self.run_id} failed and its row could not be written")
