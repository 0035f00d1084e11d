"""Why a company entered or left a label: compare what the screen showed with what it shows now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ptec_udf.warehouse.corrections import said
from ptec_udf.warehouse.source import PinnedSource


@dataclass(frozen=True)
class ModelLabels:
    """A model's labels, in the order of its probabilities, with their thresholds."""

    model_id: str
    names: Sequence[str]
    thresholds: Sequence[float]


def screen_changes(
    before: DataFrame,
    after: DataFrame,
    *,
    old: ModelLabels,
    new: ModelLabels,
    source: PinnedSource,
    run_id: str,
    changed_at: datetime,
    same_template: bool = True,
    same_logits: bool = False,
) -> DataFrame:
    """List every company that enters or leaves a label.

    Args:
        before: rows of the scores table that the screen showed, under the old model.
        after: rows that it shows now, under the new model; a key in one of the two only is compared
            with nothing. Rows marked as removed count as not shown.
        old: the old model's labels (the same model's, in an ordinary night).
        new: the new model's labels.
        source: the pinned source.
        run_id: the run.
        changed_at: one time for all rows of the run.
        same_template: whether both sides' texts were made in one way, so that a difference is the company's.
        same_logits: whether the two models differ in calibration and thresholds at most.

    Returns:
        Rows of the score_changes table. Reasons: ``new`` (not shown before, or without a score), ``removed``
        (not shown any more), ``correction`` (of this label), ``text`` (the company's text changed), ``model``
        (other logits of another model, and no other text that one could know of), ``threshold`` (none of these
        changed).
    """
    both = _shown(before, "old").join(_shown(after, "new"), on="key", how="full_outer")
    moves = F.concat(
        _moves(_labels("new"), _labels("old"), entered=True), _moves(_labels("old"), _labels("new"), entered=False)
    )
    # Of a label that one of the models lacks, only the other one's corrections are known.
    is_common = F.col("label").isin(*set(old.names).intersection(new.names))
    says = [said(F.col(f"{side}_corrected"), F.col("label")) for side in ("old", "new")]
    corrected = is_common & ~says[0].eqNullSafe(says[1])
    return (
        both.withColumn("move", F.explode(moves))
        .select("*", "move.*")
        .select(
            F.lit(run_id).alias("run_id"),
            F.lit(new.model_id).alias("model_id"),
            F.lit(old.model_id).alias("previous_model_id"),
            "key",
            "label",
            "entered",
            _at("old_probabilities", old.names, F.col("label")).alias("old_probability"),
            _at("new_probabilities", new.names, F.col("label")).alias("new_probability"),
            _threshold(old).alias("old_threshold"),
            _threshold(new).alias("new_threshold"),
            _reason(old.model_id != new.model_id and not same_logits, same_template, corrected).alias("reason"),
            F.lit(source.source_id).alias("source_id"),
            F.lit(source.version).cast("long").alias("source_version"),
            F.lit(changed_at).alias("changed_at"),
        )
    )


def _shown(rows: DataFrame, side: str) -> DataFrame:
    """Rows of companies that are there, columns named after their side."""
    names = ("text_hash", "labels", "probabilities", "corrected")
    return rows.where(F.col("removed_in").isNull()).select(
        "key", F.lit(True).alias(f"{side}_shown"), *[F.col(name).alias(f"{side}_{name}") for name in names]
    )


def _labels(side: str) -> Column:
    return F.coalesce(F.col(f"{side}_labels"), F.array().cast("array<string>"))


def _moves(labels: Column, others: Column, *, entered: bool) -> Column:
    """Return the labels that are not among the others, as structs of label and direction."""
    return F.transform(
        F.array_except(labels, others), lambda label: F.struct(label.alias("label"), F.lit(entered).alias("entered"))
    )


def _reason(model_changed: bool, same_template: bool, corrected: Column) -> Column:
    """Say why, from what differs between the two sides."""
    # Another template gives every company another text, which says nothing about the company.
    text_changed = F.lit(same_template or not model_changed) & ~F.col("old_text_hash").eqNullSafe(
        F.col("new_text_hash")
    )
    return (
        F.when(F.col("old_shown").isNull(), F.lit("new"))
        .when(F.col("new_shown").isNull(), F.lit("removed"))
        # Before the others: a correction decides, whatever else has changed.
        .when(corrected, F.lit("correction"))
        .when(text_changed, F.lit("text"))
        .when(F.lit(model_changed), F.lit("model"))
        .when(F.col("old_probabilities").isNull(), F.lit("new"))
        .otherwise(F.lit("threshold"))
    )


def _at(values: str, names: Sequence[str], label: Column) -> Column:
    """Return a label's value from an array in the order of ``names``; null where the model lacks the label."""
    position = F.array_position(F.array(*[F.lit(name) for name in names]), label)
    return F.try_element_at(F.col(values), F.nullif(position, F.lit(0)).cast("int"))


def _threshold(model: ModelLabels) -> Column:
    """Return the label's threshold in a model."""
    pairs = [
        part for name, value in zip(model.names, model.thresholds, strict=True) for part in (F.lit(name), F.lit(value))
    ]
    return F.try_element_at(F.create_map(*pairs), F.col("label")).cast("float")
