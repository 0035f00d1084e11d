"""Give nights that were killed after their MERGE the row that they could not write.

Their scores stand and their changes are written, but no view shows the changes of a run without a row.
A rerun of the same version has the same run_id and writes the row itself. Where the source has moved on,
the next night is another run, and does it here.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import Any

from pyspark.sql import Row
from pyspark.sql import functions as F

from ptec_udf.nightly.plan import Night, night_of
from ptec_udf.nightly.runs import DONE, RunRecord, run_name
from ptec_udf.progress import say


def finish_killed(night: Night) -> Night:
    """Write the rows of killed nights of this model and source; return the night as it then is."""
    killed = _killed(night)
    if not killed:
        return night
    for row in killed:
        record = _record(night, row)
        record.count_written(night.warehouse)
        record.write(night.warehouse, DONE)
        say(f"run {record.run_id} was killed after its scores were written; its row is written now")
    source = night.source
    if source.kind != "delta":
        # What the killed night read may have been something else: its version is taken.
        source = replace(source, version=max(source.version, *(row["source_version"] + 1 for row in killed)))
    return night_of(night.warehouse, night.config, night.artifact, source)


def _killed(night: Night) -> list[Row]:
    """Return run, version and time of standing rows whose run has no row."""
    known = [row["run_id"] for row in night.history.rows if row["outcome"] == DONE]
    if night.source.kind == "delta":
        known.append(night.record.run_id)  # the same version: this night ends what that one began
    rows = night.standing().where((F.col("source_id") == night.source.source_id) & ~F.col("run_id").isin(known))
    return rows.groupBy("run_id", "source_version").agg(F.min("scored_at").alias("started")).collect()


def _record(night: Night, row: Row) -> RunRecord:
    """Make the record of a killed night, of the alias that its name was made of."""
    source = replace(night.source, version=row["source_version"], fingerprint=None)
    mine = night.record
    facts: dict[str, Any] = {"model_id": mine.model_id, "source": source, "text_id": mine.text_id}
    return RunRecord(
        run_id=row["run_id"],
        config=mine.config,
        source=source,
        text_id=mine.text_id,
        model_id=mine.model_id,
        alias=_alias_of(night, row["run_id"], facts),
        started=row["started"].astimezone(UTC),
    )


def _alias_of(night: Night, run_id: str, facts: dict[str, Any]) -> str | None:
    """Return the alias that a run was of, which need not be this night's; None: its model was named by id."""
    for row in night.warehouse.read("aliases").select("alias").distinct().collect():
        names = tuple(run_name(**facts, alias=row["alias"], retries_errors=retries) for retries in (False, True))
        if run_id.startswith(names):
            return str(row["alias"])
    return None
