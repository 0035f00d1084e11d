"""Logits to the rows of the scores table: probabilities and labels, in native Spark functions."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ptec_udf.engine.result import EMPTY, ERROR
from ptec_udf.model.calibration import bend
from ptec_udf.model.manifest import Label, Manifest, Point
from ptec_udf.monitor.language import language
from ptec_udf.nightly.diff import AMBIGUOUS_KEY, GONE, TO_WRITE
from ptec_udf.warehouse.corrections import said
from ptec_udf.warehouse.schemas import SCORES
from ptec_udf.warehouse.source import PinnedSource

STAGING_LOST = "a text was scored and is not in staging any more: another run of this name is at work"


def probabilities(logits: Column, labels: list[Label], curve: list[Point] | None) -> Column:
    """Return sigmoid(curve(scale * logit + offset)) for every label, computed in double, kept as float."""
    scales = F.array(*[F.lit(label.scale) for label in labels])
    offsets = F.array(*[F.lit(label.offset) for label in labels])
    scaled = F.zip_with(logits, scales, lambda logit, scale: logit.cast("double") * scale)
    shifted = F.zip_with(scaled, offsets, lambda value, offset: value + offset)
    return F.transform(shifted, lambda value: (1 / (1 + F.exp(-bend(value, curve, _clamp)))).cast("float"))


def _clamp(value: Column, low: float, high: float) -> Column:
    """Return a value, or the nearer end where it is beyond."""
    return F.least(F.greatest(value, F.lit(low)), F.lit(high))


def assigned_labels(probability: Column, labels: list[Label], corrected: Column) -> Column:
    """Return the labels at or over their threshold, compared as the floats that are stored, corrections applied."""
    known = F.array(
        *[
            F.struct(F.lit(label.name).alias("name"), F.lit(label.threshold).cast("float").alias("threshold"))
            for label in labels
        ]
    )

    def named(value: Column, label: Column) -> Column:
        has = F.coalesce(said(corrected, label["name"]), value >= label["threshold"])
        return F.when(has, label["name"])

    return F.array_compact(F.zip_with(probability, known, named))


def scored_rows(
    changes: DataFrame,
    known: DataFrame,
    *,
    manifest: Manifest,
    source: PinnedSource,
    run_id: str,
    scored_at: datetime,
) -> DataFrame:
    """Make the new rows of the scores table.

    Args:
        changes: rows of ``diff.marked``.
        known: text_hash and the scored fields of every text that is needed.
        manifest: labels, thresholds and calibration.
        source: the pinned source.
        run_id: the run.
        scored_at: one time for all rows of the run.
    """
    wanted = changes.where(F.col("fate").isin(*TO_WRITE))
    joined = wanted.join(known, on="text_hash", how="left")
    probability = probabilities(F.col("logits"), manifest.labels, manifest.curve)
    labels = assigned_labels(probability, manifest.labels, F.col("corrected"))
    conflict, blank = F.col("conflict"), F.col("text").isNull() & ~F.col("conflict")
    # Ends the night rather than write a company without a score.
    scored = F.coalesce("status", F.raise_error(F.lit(STAGING_LOST)).cast("string"))
    status = F.when(conflict, F.lit(ERROR)).when(blank, F.lit(EMPTY)).otherwise(scored)
    error = F.when(conflict, F.lit(AMBIGUOUS_KEY)).otherwise(F.col("error"))
    return joined.select(
        "key",
        F.lit(manifest.model_id).alias("model_id"),
        "text_hash",
        status.alias("status"),
        F.coalesce("n_tokens", F.lit(0)).alias("n_tokens"),
        F.coalesce("n_truncated", F.lit(0)).alias("n_truncated"),
        error.alias("error"),
        "logits",
        probability.alias("probabilities"),
        F.coalesce(labels, F.array().cast("array<string>")).alias("labels"),
        *_origin(source, run_id, scored_at),
        F.lit(None).cast("long").alias("removed_in"),
        "corrected",
        language(F.col("text")).alias("language"),
    )


def gone_rows(
    changes: DataFrame, standing: DataFrame, *, source: PinnedSource, run_id: str, scored_at: datetime
) -> DataFrame:
    """Make the rows of companies that left the source: their last scores, marked with the version."""
    gone = changes.where(F.col("fate") == GONE).select("key")
    fresh = {"source_id", "source_version", "run_id", "scored_at", "removed_in"}
    kept = [name for name in SCORES.names if name not in fresh]
    return standing.join(gone, on="key", how="left_semi").select(
        *kept,
        *_origin(source, run_id, scored_at),
        F.lit(source.version).cast("long").alias("removed_in"),
    )


def _origin(source: PinnedSource, run_id: str, scored_at: datetime) -> list[Column]:
    """Columns that say where a row comes from."""
    return [
        F.lit(source.source_id).alias("source_id"),
        F.lit(source.version).cast("long").alias("source_version"),
        F.lit(run_id).alias("run_id"),
        F.lit(scored_at).alias("scored_at"),
    ]
