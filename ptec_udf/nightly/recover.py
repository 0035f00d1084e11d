"""Give nights that were killed after their MERGE the row that they could not write.

Their scores stand and their changes are written, but no view shows the changes of a run without a row.
A rerun of the same version has the same run_id and writes the row itself. Where the source has moved on,
or the alias points to another model, the next night is another run, and does it here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC
from itertools import product
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Row
from pyspark.sql import functions as F

from ptec_udf.errors import HeldError
from ptec_udf.log import logger
from ptec_udf.nightly.hold import held
from ptec_udf.nightly.plan import Night, night_of
from ptec_udf.nightly.runs import DONE, RunRecord, run_name
from ptec_udf.text.template import fields_in, text_id
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.source import PinnedSource


def finish_killed(night: Night) -> Night:
    """Write the rows of killed nights; return the night as it then is.

    They are those of this model, and of models that the alias has pointed to since its last run. One of another source
    is told too, since this night takes its companies over.
    """
    killed = _killed(night, night.record.model_id)
    _finish(night, killed, night.record.text_id)
    for model_id, template in _earlier_models(night).items():
        if not (seen := _killed_since_last(night, model_id)):
            continue
        killed += seen
        with suppress(HeldError), held(night.warehouse, model_id, night.record.run_id):  # at work, it is not killed
            columns = fields_in(template, night.config.source.columns)
            _finish(night, _killed_since_last(night, model_id), text_id(template, columns, night.config.source.key))
    if not killed:
        return night
    source = night.source
    if source.kind != "delta":
        # What the killed night read may have been something else: its version is taken.
        of_this = [row["source_version"] + 1 for row in killed if row["source_id"] == source.source_id]
        source = replace(source, version=max(source.version, *of_this, 0))
    return night_of(night.warehouse, night.config, night.artifact, source)


def _earlier_models(night: Night) -> Mapping[str, str]:
    """Return the templates of other models that the alias has pointed to since its last run, by model_id."""
    if night.record.alias is None:
        return {}
    last, model_ids = _last(night), set()
    for move in reversed(registry.moves_of(night.warehouse, night.record.alias)):
        model_ids.add(move["model_id"])
        if last and move["model_id"] == last["model_id"] and move["at"].timestamp() <= last["started"].timestamp():
            break
    if not (others := model_ids - {night.record.model_id}):
        return {}
    models = night.warehouse.read("models").where(F.col("model_id").isin(*others)).collect()
    return {model["model_id"]: model["template"] for model in models}


def _last(night: Night) -> Row | None:
    return night.history.last_done(alias=night.record.alias, model_id=night.record.model_id)


def _killed(night: Night, model_id: str) -> list[Row]:
    """Return model, run, source, version and time of a model's standing rows whose run has no row."""
    of_model = F.col("model_id") == F.lit(model_id)
    scores = night.warehouse.read("scores").where(of_model)
    if night.source.kind == "delta":
        # The same version: this night ends what that one began.
        scores = scores.where(F.col("run_id") != night.record.run_id)
    done = night.warehouse.read("runs").where(of_model & (F.col("outcome") == DONE))
    rows = scores.groupBy("model_id", "run_id", "source_id", "source_version").agg(F.min("scored_at").alias("started"))
    return rows.join(done.select("run_id"), on="run_id", how="left_anti").collect()


def _killed_since_last(night: Night, model_id: str) -> list[Row]:
    """Return those after which no night of the alias has told what changed: it did so without them."""
    last = _last(night)
    since = last["started"].timestamp() if last else 0
    return [row for row in _killed(night, model_id) if row["started"].timestamp() > since]


def _finish(night: Night, killed: Sequence[Row], columns: str) -> None:
    """Write the rows of killed nights."""
    for row in killed:
        record = _record(night, row, columns)
        record.count_written(night.warehouse)
        record.write(night.warehouse, DONE)
        logger.info(f"run {record.run_id} wrote scores and has no row, as one that was killed; it is written now")


def _record(night: Night, row: Row, columns: str) -> RunRecord:
    """Make the record of a killed night, of the alias and the columns that its name was made of."""
    names = {run["source_id"]: run["source_name"] for run in night.history.rows}
    name = names.get(row["source_id"], night.source.name)
    is_this = (night.source.kind, night.source.source_id) == ("delta", row["source_id"])
    table_id = None
    with suppress(PySparkException, Py4JError):  # a log that cannot be read just now keeps no row back
        table_id = night.source.id_at(night.warehouse.spark, row["source_version"]) if is_this else None
    source = replace(
        night.source, source_id=row["source_id"], name=name, version=row["source_version"], fingerprint=table_id
    )
    alias, text = _named(night, row, source, columns)
    return RunRecord(
        run_id=row["run_id"],
        config=night.record.config,
        source=source,
        text_id=text,
        model_id=row["model_id"],
        alias=alias,
        started=row["started"].astimezone(UTC),
    )


def _named(night: Night, row: Row, source: PinnedSource, columns: str) -> tuple[str | None, str]:
    """Return the alias and the columns that a run was of, which need not be this night's."""
    moves = night.warehouse.read("aliases").orderBy("at").collect()
    aliases = [None, *{move["alias"] for move in moves}]
    texts = [columns, *{run["text_id"] for run in night.history.rows}]  # a promotion leaves columns as they are
    for alias, text, retries in product(aliases, texts, (False, True)):
        facts: dict[str, Any] = {"model_id": row["model_id"], "alias": alias, "source": source, "text_id": text}
        if row["run_id"].startswith(f"{run_name(**facts, retries_errors=retries)}-"):
            return alias, text
    # Its columns are those of no run that has a row. It may be of the alias, if that pointed to its model then.
    begun = row["started"].timestamp()
    earlier = [move for move in moves if move["at"].timestamp() <= begun]
    pointed = [move["model_id"] for move in earlier if move["alias"] == night.record.alias]
    return (night.record.alias if pointed[-1:] == [row["model_id"]] else None), columns
