"""Give nights that were killed after their MERGE the row that they could not write.

Their scores stand and their changes are written, but no view shows the changes of a run without a row.
A rerun of the same version has the same run_id and writes the row itself. Where the source has moved on,
or the alias points to another model, the next night is another run, and does it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC
from itertools import product

from pyspark.sql import Row
from pyspark.sql import functions as F

from ptec_udf.errors import HeldError
from ptec_udf.nightly.hold import held
from ptec_udf.nightly.plan import Night, night_of
from ptec_udf.nightly.runs import DONE, RunRecord, run_name
from ptec_udf.progress import say
from ptec_udf.text import text_id
from ptec_udf.warehouse.source import PinnedSource


def finish_killed(night: Night) -> Night:
    """Write the rows of killed nights of this source; return the night as it then is.

    They are those of this model, and of models that the alias has pointed to since its last run.
    """
    killed = _finish(night, night.record.model_id, night.record.text_id)
    for model_id, template in _earlier_models(night).items():
        columns = text_id(template, night.config.source.columns, night.config.source.key)
        with suppress(HeldError), held(night.warehouse, model_id, night.record.run_id):  # at work, it is not killed
            killed += _finish(night, model_id, columns)
    if not killed:
        return night
    source = night.source
    if source.kind != "delta":
        # What the killed night read may have been something else: its version is taken.
        source = replace(source, version=max(source.version, *(row["source_version"] + 1 for row in killed)))
    return night_of(night.warehouse, night.config, night.artifact, source)


def _earlier_models(night: Night) -> Mapping[str, str]:
    """Return the templates of other models that the alias has pointed to since its last run, by model_id."""
    alias, warehouse = night.record.alias, night.warehouse
    if alias is None:
        return {}
    last = night.history.last_done(alias=alias, model_id=night.record.model_id)
    moves = warehouse.read("aliases").where(F.col("alias") == F.lit(alias)).collect()
    model_ids = {move["model_id"] for move in moves if last is None or move["at"] > last["started"]}
    if last:
        model_ids.add(last["model_id"])
    if not (others := model_ids - {night.record.model_id}):
        return {}
    models = warehouse.read("models").where(F.col("model_id").isin(*others)).collect()
    return {model["model_id"]: model["template"] for model in models}


def _finish(night: Night, model_id: str, columns: str) -> list[Row]:
    """Write the rows of a model's killed nights; return run, version and time of each."""
    killed = _killed(night, model_id)
    for row in killed:
        record = _record(night, row, model_id, columns)
        record.count_written(night.warehouse)
        record.write(night.warehouse, DONE)
        say(f"run {record.run_id} was killed after its scores were written; its row is written now")
    return killed


def _killed(night: Night, model_id: str) -> list[Row]:
    """Return run, version and time of a model's standing rows whose run has no row."""
    of_model = F.col("model_id") == F.lit(model_id)
    scores = night.warehouse.read("scores").where(of_model & (F.col("source_id") == night.source.source_id))
    if night.source.kind == "delta":
        # The same version: this night ends what that one began.
        scores = scores.where(F.col("run_id") != night.record.run_id)
    done = night.warehouse.read("runs").where(of_model & (F.col("outcome") == DONE))
    rows = scores.groupBy("run_id", "source_version").agg(F.min("scored_at").alias("started"))
    return rows.join(done.select("run_id"), on="run_id", how="left_anti").orderBy("started").collect()


def _record(night: Night, row: Row, model_id: str, columns: str) -> RunRecord:
    """Make the record of a killed night, of the alias and the columns that its name was made of."""
    source = replace(night.source, version=row["source_version"], fingerprint=None)
    alias, text = _named(night, row["run_id"], model_id, source, columns) or (None, columns)
    return RunRecord(
        run_id=row["run_id"],
        config=night.record.config,
        source=source,
        text_id=text,
        model_id=model_id,
        alias=alias,
        started=row["started"].astimezone(UTC),
    )


def _named(night: Night, run_id: str, model_id: str, source: PinnedSource, columns: str) -> tuple[str, str] | None:
    """Return the alias and the columns that a run was of, which need not be this night's.

    None: its model was named by id, or its columns are those of no run that has a row.
    """
    aliases = {row["alias"] for row in night.warehouse.read("aliases").select("alias").collect()}
    texts = [columns, *{row["text_id"] for row in night.history.rows if row["model_id"] == model_id}]
    for alias, text, retries in product(aliases, texts, (False, True)):
        name = run_name(model_id=model_id, alias=alias, source=source, text_id=text, retries_errors=retries)
        if run_id.startswith(f"{name}-"):
            return alias, text
    return None
