"""Logits to the rows of table ``scores``: probabilities and labels, in native Spark functions."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ptec_udf.engine.scorer import EMPTY, ERROR
from ptec_udf.model.manifest import Label
from ptec_udf.nightly.diff import AMBIGUOUS_KEY, REMOVED, TO_SCORE
from ptec_udf.nightly.plan import ScoringRun
from ptec_udf.warehouse.corrections import correction_of

STAGING_LOST = "a text that was scored is no longer in staging: another run removed it, or the source changed meanwhile"


def probabilities(logits: Column, labels: list[Label]) -> Column:
    """Return sigmoid(scale * logit + offset) for every label, computed in double, stored as float."""
    scales = F.array(*[F.lit(label.scale) for label in labels])
    offsets = F.array(*[F.lit(label.offset) for label in labels])
    scaled = F.zip_with(logits, scales, lambda logit, scale: logit.cast("double") * scale)
    shifted = F.zip_with(scaled, offsets, lambda value, offset: value + offset)
    return F.transform(shifted, lambda value: (1 / (1 + F.exp(-value))).cast("float"))


def assigned_labels(probability: Column, labels: list[Label], corrected: Column) -> Column:
    """Return the labels at or over their threshold, compared as the stored floats, corrections applied."""
    known = F.array(
        *[
            F.struct(F.lit(label.name).alias("name"), F.lit(label.threshold).cast("float").alias("threshold"))
            for label in labels
        ]
    )

    def named(value: Column, label: Column) -> Column:
        has_label = F.coalesce(correction_of(corrected, label["name"]), value >= label["threshold"])
        return F.when(has_label, label["name"])

    return F.array_compact(F.zip_with(probability, known, named))


def score_rows(run: ScoringRun, rows: DataFrame, known: DataFrame) -> DataFrame:
    """Return the rows that the MERGE writes, from rows of ``diff.Difference`` and scored fields by text_hash."""
    manifest = run.artifact.manifest
    joined = rows.where(F.col("change_type").isin(*TO_SCORE)).join(known, on="text_hash", how="left")
    probability = probabilities(F.col("logits"), manifest.labels)
    labels = assigned_labels(probability, manifest.labels, F.col("corrected"))
    # Fails the commit rather than write a company without a score.
    status = F.coalesce("status", F.raise_error(F.lit(STAGING_LOST)).cast("string"))
    scored = joined.select(
        "key",
        "text_hash",
        F.when(F.col("is_ambiguous"), ERROR).when(F.col("cost").isNull(), EMPTY).otherwise(status).alias("status"),
        F.coalesce("n_tokens", F.lit(0)).alias("n_tokens"),
        F.coalesce("n_truncated", F.lit(0)).alias("n_truncated"),
        error_column().alias("error"),
        F.lit(run.logits_id).alias("logits_id"),
        "logits",
        probability.alias("probabilities"),
        F.coalesce(labels, F.array().cast("array<string>")).alias("labels"),
        "corrected",
    )
    # A source without versions removes companies too; 0 marks them.
    removed_in = F.lit(run.source.version or 0).cast("long").alias("removed_in")
    removed = rows.where(F.col("change_type") == REMOVED).select("key", removed_in)
    return scored.unionByName(removed, allowMissingColumns=True).withColumns(
        {
            "source_id": F.lit(run.source.source_id),
            "source_version": F.lit(run.source.version).cast("long"),
            "run_id": F.lit(run.run_id),
            "scored_at": F.lit(run.started),
        }
    )


def error_column() -> Column:
    """Return why a company has no score; null if it has one."""
    return F.when(F.col("is_ambiguous"), F.lit(AMBIGUOUS_KEY)).otherwise(F.col("error"))
