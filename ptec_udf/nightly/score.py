"""The night, from top to bottom: source table -> what is new -> staging -> scores, changes, run.

Whatever moment it is killed at, a rerun ends as an undisturbed night would have: scored texts wait in
staging, score_changes of a run are replaced as a whole, MERGE is one commit, and the run's row comes
last.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ptec_udf.config import ScoreConfig
from ptec_udf.errors import ConfigError, PtecError
from ptec_udf.model.artifact import Artifact, load_artifact
from ptec_udf.model.backbone import resolve
from ptec_udf.nightly import diff
from ptec_udf.nightly.changes import ModelLabels, screen_changes
from ptec_udf.nightly.rows import gone_rows, scored_rows
from ptec_udf.nightly.runs import DONE, FAILED, NOTHING, SUPERSEDED, History, RunRecord
from ptec_udf.nightly.stage import Staged, known_texts, stage
from ptec_udf.progress import say
from ptec_udf.text import missing_columns, parse_template, text_column, text_id
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.source import PinnedSource, pin
from ptec_udf.warehouse.tables import Warehouse
from ptec_udf.warehouse.views import ensure_views


@dataclass(frozen=True)
class Night:
    """What a night works with, pinned before anything is read."""

    warehouse: Warehouse
    config: ScoreConfig
    source: PinnedSource
    artifact: Artifact
    history: History
    record: RunRecord
    scores_version: int

    def standing(self) -> DataFrame:
        """Scores of this model as they stood when the night began."""
        scores = self.warehouse.read("scores", self.scores_version)
        return scores.where(F.col("model_id") == self.artifact.model_id)


def score(spark: SparkSession, config: ScoreConfig) -> dict[str, Any]:
    """Score a source table with a registered model.

    Returns:
        The run's row: outcome (done, nothing_to_do, superseded), counts by status, rates.

    Raises:
        UserError: for a model, source, artifact or backbone that cannot be used; nothing is written.
        PtecError: when the night fails later; the tables stay as they were, the run's row says failed.
    """
    warehouse = Warehouse(spark, config.warehouse.database)
    warehouse.ensure()
    night = _pin(warehouse, config)
    if reason := _nothing_to_do(night):
        say(reason)
        return night.record.write(warehouse, NOTHING)
    if reason := _superseded(night):
        say(reason)
        return night.record.write(warehouse, SUPERSEDED)
    _check(night)
    ensure_views(warehouse)
    try:
        _run(night)
    except PySparkException as error:
        # Spark's message may quote a value, and a value may be a company's text: only its kind is told.
        kind = error.getCondition() or type(error).__name__
        night.record.write(warehouse, FAILED, kind)
        raise PtecError(f"the night failed with {kind}; the tables are as before, see Spark's own log") from error
    except Exception as error:
        night.record.write(warehouse, FAILED, type(error).__name__)
        raise
    return night.record.write(warehouse, DONE)


def _pin(warehouse: Warehouse, config: ScoreConfig) -> Night:
    """Fix model, source version and scores version; no table is scanned."""
    choice = config.model
    model = registry.find(warehouse, alias=None if choice.id else choice.alias, model_id=choice.id)
    artifact = load_artifact(model["location"])
    source = pin(warehouse.spark, config.source, warehouse)
    alias = None if choice.id else choice.alias
    columns = text_id(artifact.manifest.template, config.source.columns)
    history = History.read(warehouse)
    record = RunRecord(
        run_id=history.run_id(model_id=artifact.model_id, alias=alias, source=source, text_id=columns),
        config=config.model_dump_json(),
        source=source,
        text_id=columns,
        model_id=artifact.model_id,
        alias=alias,
    )
    return Night(warehouse, config, source, artifact, history, record, warehouse.version("scores"))


def _nothing_to_do(night: Night) -> str | None:
    """Tell whether the last run of this screen saw the same source, version, model and template."""
    record, source = night.record, night.source
    last = night.history.last_done(alias=record.alias, model_id=record.model_id)
    if last is None or night.config.retry_errors:
        return None
    seen = (last["source_id"], last["source_version"], last["model_id"], last["text_id"])
    if seen != (source.source_id, source.version, record.model_id, record.text_id):
        return None
    return (
        f"nothing to do: version {source.version} of {source.name} was scored with this model by run {last['run_id']}"
    )


def _superseded(night: Night) -> str | None:
    """Tell whether scores of a newer version of this source stand already."""
    model_id, source = night.record.model_id, night.source
    recorded = night.history.newest_version(model_id, source.source_id)
    # A night that was killed after its MERGE left newer rows but no run.
    of_source = night.standing().where(F.col("source_id") == source.source_id)
    merged = of_source.agg(F.max("source_version")).first()[0]  # type: ignore[index]
    newest = max((version for version in (recorded, merged) if version is not None), default=-1)
    if source.version >= newest:
        return None
    return (
        f"version {source.version} of {source.name} is older than version {newest}, whose scores stand; "
        "they stay, nothing was written"
    )


def _check(night: Night) -> None:
    """Refuse what can be seen to fail, all faults at once, before anything is written."""
    faults = []
    last = night.history.last_of_model(night.record.model_id)
    if last and last["source_id"] != night.source.source_id and not night.config.source.accept_new:
        faults.append(
            f"source: earlier nights of this model read another source than {night.source.name} (a table that was "
            "dropped and made again is another one); give --accept-new-source if that is meant"
        )
    template = parse_template(night.artifact.manifest.template)
    columns = {name: night.config.source.columns.get(name, name) for name in template.fields}
    faults += missing_columns(night.source.read(night.warehouse.spark).columns, columns)
    if unknown := sorted(set(night.config.source.columns) - set(template.fields)):
        faults.append(f"source.columns: the model's template has no field {unknown}, but {list(template.fields)}")
    if faults:
        raise ConfigError(faults)
    backbone = night.artifact.manifest.backbone
    resolve(backbone.name).check(backbone.content_hash)


def _run(night: Night) -> None:
    """Do the night's work."""
    warehouse, record = night.warehouse, night.record
    say(f"run {record.run_id}: version {night.source.version} of {night.source.name}, model {record.model_id[:12]}")
    changes = _marked(night).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        fates = _count_fates(changes)
        record.skipped = fates.get(diff.SAME, 0)
        say(", ".join(f"{fate} {count}" for fate, count in sorted(fates.items())) or "the source has no rows")
        scores_texts = any(fates.get(fate) for fate in diff.TO_WRITE)
        staged = _stage(night, changes) if scores_texts else Staged(0, 0.0)
        rows = _rows(night, changes)
        writes = scores_texts or bool(fates.get(diff.GONE))
        _write_changes(night, rows, writes)
        if writes:
            warehouse.merge_scores(rows, record.model_id, accept_new_source=night.config.source.accept_new)
        _summarise(night, staged)
        warehouse.delete_staged(record.model_id)
    finally:
        changes.unpersist()


def _marked(night: Night) -> DataFrame:
    """Read the pinned source, make texts, and give every key its fate."""
    source = night.source.read(night.warehouse.spark)
    key, options = night.config.source.key, night.config.source
    if null_keys := diff.count_null_keys(source, key):
        night.record.counts["null_key"] = null_keys
        say(f"warning: {null_keys} rows have no {key!r} and cannot be scored")
    text = text_column(source.schema, parse_template(night.artifact.manifest.template), options.columns)
    return diff.marked(
        diff.keyed_texts(source, key, text),
        night.standing(),
        source_id=night.source.source_id,
        retry_errors=night.config.retry_errors,
    )


def _count_fates(changes: DataFrame) -> dict[str, int]:
    return {row["fate"]: row["count"] for row in changes.groupBy("fate").count().collect()}


def _stage(night: Night, changes: DataFrame) -> Staged:
    """Score each distinct text that is not known yet, once."""
    wanted = changes.where(F.col("text").isNotNull())
    known = known_texts(night.warehouse, night.standing(), night.record.model_id).select("text_hash")
    if night.config.retry_errors:
        failed = night.standing().where(F.col("status") == "error").select("text_hash")
        known = known.join(failed, on="text_hash", how="left_anti")
    fresh = wanted.select("text_hash", "text").dropDuplicates(["text_hash"])
    fresh = fresh.join(known, on="text_hash", how="left_anti").persist(StorageLevel.MEMORY_AND_DISK)
    try:
        staged = stage(
            night.warehouse,
            fresh,
            artifact=night.artifact,
            engine=night.config.engine,
            slice_texts=night.config.slice_texts,
            run_id=night.record.run_id,
        )
    finally:
        fresh.unpersist()
    night.record.reused = wanted.count() - staged.texts
    return staged


def _rows(night: Night, changes: DataFrame) -> DataFrame:
    """Make all rows that MERGE is to write."""
    origin: dict[str, Any] = {
        "source": night.source,
        "run_id": night.record.run_id,
        "scored_at": night.record.started,
    }
    known = known_texts(night.warehouse, night.standing(), night.record.model_id)
    scored = scored_rows(changes, known, manifest=night.artifact.manifest, **origin)
    return scored.unionByName(gone_rows(changes, night.standing(), **origin))


def _write_changes(night: Night, rows: DataFrame, writes: bool) -> None:
    """Write why companies entered or left labels; before MERGE, so that a killed night writes them again."""
    model_id = night.record.model_id
    last = night.history.last_done(alias=night.record.alias, model_id=model_id)
    old_id = last["model_id"] if last else model_id
    new = ModelLabels(
        model_id,
        [label.name for label in night.artifact.manifest.labels],
        [label.threshold for label in night.artifact.manifest.labels],
    )
    if old_id == model_id:
        if not writes:
            return
        # Only written keys can differ; the others stand on both sides.
        before = night.standing().join(rows.select("key"), on="key", how="left_semi")
        old, after = new, rows
    else:
        before = night.warehouse.read("scores", night.scores_version).where(F.col("model_id") == old_id)
        old = ModelLabels(old_id, *registry.labels(night.warehouse, old_id))
        after = rows.unionByName(night.standing().join(rows.select("key"), on="key", how="left_anti"))
    changed = screen_changes(
        before,
        after,
        old=old,
        new=new,
        source=night.source,
        run_id=night.record.run_id,
        changed_at=night.record.started,
    )
    night.warehouse.replace_run("score_changes", changed, night.record.run_id)


def _summarise(night: Night, staged: Staged) -> None:
    """Count what stands after MERGE, which a rerun after a kill can do as well as the first run."""
    record = night.record
    written = night.warehouse.read("scores").where(
        (F.col("model_id") == record.model_id) & (F.col("run_id") == record.run_id)
    )
    status = F.when(F.col("removed_in").isNotNull(), F.lit("removed")).otherwise(F.col("status"))
    record.counts |= {row["status"]: row["count"] for row in written.groupBy(status.alias("status")).count().collect()}
    scored = night.warehouse.read("score_staging").where(
        (F.col("model_id") == record.model_id) & (F.col("run_id") == record.run_id)
    )
    sums = scored.agg(F.sum("n_tokens").alias("tokens"), F.sum("batch_positions").alias("positions")).first()
    if sums and sums["tokens"]:
        record.tokens = sums["tokens"]
        record.padding = round(1 - sums["tokens"] / sums["positions"], 4)
    if staged.texts:
        record.rows_per_second = round(staged.texts / staged.seconds, 2)
    seconds = (datetime.now(UTC) - record.started).total_seconds()
    say(f"written: {record.counts}, {staged.texts} texts scored, {record.reused} reused, {seconds:.0f} s")
