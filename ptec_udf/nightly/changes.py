"""Why a company entered or left a label: the difference of two versions of table ``scores``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ptec_udf.nightly.runs import History, RunRecord
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.corrections import correction_of
from ptec_udf.warehouse.tables import Warehouse


class ModelLabels(NamedTuple):
    """A model's labels in the order of its probabilities, with their thresholds."""

    model_id: str
    names: Sequence[str]
    thresholds: Sequence[float]


def write_changes(warehouse: Warehouse, record: RunRecord, version: int) -> None:
    """Derive the changes of the run whose MERGE made a version of ``scores``, after those of all earlier versions."""
    not_before = {record.run_id, *warehouse.versions_by_run("scores", version)}
    history = History([row for row in History.read(warehouse).rows if row["run_id"] not in not_before])
    if _is_overtaken(record, history):
        return
    last = history.last_shown(alias=record.alias, model_id=record.model_id)
    # The screen showed nothing, an older version of the same model's rows, or the rows of another model.
    old_id = last["model_id"] if last else record.model_id
    of_model = F.col("model_id") == F.lit(record.model_id)
    after = warehouse.read("scores", version).where(of_model)
    if last is None and record.alias:
        before = after.limit(0)  # the alias showed nothing
    elif old_id == record.model_id:
        after = after.where(F.col("run_id") == F.lit(record.run_id))
        earlier = warehouse.read("scores", max(version - 1, 0)).where(of_model)
        before = earlier.join(after.select("key"), on="key", how="left_semi")
    else:
        before = warehouse.read("scores", version).where(F.col("model_id") == F.lit(old_id))
    new = ModelLabels(record.model_id, *registry.labels(warehouse, record.model_id))
    old = new if old_id == record.model_id else ModelLabels(old_id, *registry.labels(warehouse, old_id))
    same_template = last is None or last["text_id"] == record.text_id
    found = derive_changes(before, after, old=old, new=new, same_template=same_template)
    origin = {
        "run_id": F.lit(record.run_id),
        "source_id": F.lit(record.source_id),
        "source_version": F.lit(record.source_version).cast("long"),
        "changed_at": F.lit(record.started),
    }
    warehouse.replace_run("score_changes", found.withColumns(origin), record.run_id)


def _is_overtaken(record: RunRecord, history: History) -> bool:
    """Return whether the alias shows another model since a later run: no screen shows what this run changed."""
    return record.alias is not None and any(
        row["model_id"] != record.model_id and row["started"].timestamp() > record.started.timestamp()
        for row in history.done(alias=record.alias)
    )


def derive_changes(
    before: DataFrame,
    after: DataFrame,
    *,
    old: ModelLabels,
    new: ModelLabels,
    same_template: bool = True,
) -> DataFrame:
    """List every company that enters or leaves a label: rows of ``score_changes`` without the run's facts.

    ``before`` and ``after`` are rows of ``scores`` under the old and the new model, in most runs the same one.
    ``same_template``: both sides' texts were made in the same way, so another text means that the company changed.
    """
    both = _shown(before, "old").join(_shown(after, "new"), on="key", how="full_outer")
    old_labels, new_labels = (F.coalesce(F.col(f"{side}_labels"), F.array()) for side in ("old", "new"))
    moved = F.concat(F.array_except(new_labels, old_labels), F.array_except(old_labels, new_labels))
    label = F.col("label")
    # A model keeps corrections of its own labels alone.
    is_common = label.isin(*set(old.names).intersection(new.names))
    sides = [correction_of(F.col(f"{side}_corrected"), label) for side in ("old", "new")]
    corrected = is_common & ~sides[0].eqNullSafe(sides[1])
    return both.withColumn("label", F.explode(moved)).select(
        F.lit(new.model_id).alias("model_id"),
        F.lit(old.model_id).alias("previous_model_id"),
        "key",
        "label",
        F.array_contains(new_labels, label).alias("entered"),
        _value_of(label, old, F.col("old_probabilities")).alias("old_probability"),
        _value_of(label, new, F.col("new_probabilities")).alias("new_probability"),
        _value_of(label, old, _thresholds(old)).alias("old_threshold"),
        _value_of(label, new, _thresholds(new)).alias("new_threshold"),
        _reason(same_template, corrected).alias("reason"),
    )


def _shown(rows: DataFrame, side: str) -> DataFrame:
    """Return companies that are in the source, columns named after their side."""
    names = ("text_hash", "logits_id", "labels", "probabilities", "corrected")
    return rows.where(F.col("removed_in").isNull()).select(
        "key", F.lit(True).alias(f"{side}_shown"), *[F.col(name).alias(f"{side}_{name}") for name in names]
    )


def _reason(same_template: bool, corrected: Column) -> Column:
    """Return the first reason that applies; ``new`` also follows a company without a score."""
    model_changed = F.col("old_logits_id") != F.col("new_logits_id")  # or its dtype or engine
    # A model with another template makes another text of every company, although no company changed.
    is_other_text = ~F.col("old_text_hash").eqNullSafe(F.col("new_text_hash"))
    text_changed = is_other_text & (F.lit(same_template) | ~model_changed)
    return (
        F.when(F.col("old_shown").isNull(), F.lit("new"))
        .when(F.col("new_shown").isNull(), F.lit("removed"))
        .when(corrected, F.lit("correction"))
        .when(text_changed, F.lit("text"))
        .when(model_changed, F.lit("model"))
        .when(F.col("old_probabilities").isNull(), F.lit("new"))
        .otherwise(F.lit("threshold"))
    )


def _thresholds(model: ModelLabels) -> Column:
    return F.array(*map(F.lit, model.thresholds)).cast("array<float>")


def _value_of(label: Column, model: ModelLabels, values: Column) -> Column:
    """Return a label's value from an array in the model's order; null if the model lacks the label."""
    position = F.array_position(F.array(*map(F.lit, model.names)), label)
    return F.try_element_at(values, F.nullif(position, F.lit(0)).cast("int"))
