"""Why a company entered or left a label: the difference of two versions of table ``scores``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ptec_udf.nightly.runs import History, RunRecord
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.corrections import correction_of
from ptec_udf.warehouse.tables import Warehouse


@dataclass(frozen=True)
class ModelLabels:
    """A model's labels in the order of its probabilities, with their thresholds."""

    model_id: str
    names: Sequence[str]
    thresholds: Sequence[float]


def write_changes(warehouse: Warehouse, history: History, record: RunRecord, version: int) -> None:
    """Derive the changes of a run and replace its earlier ones; the result is the same at any time.

    Args:
        warehouse: the tables.
        history: runs, the last one of the same screen among them.
        record: the run.
        version: version of ``scores`` that the run's MERGE made; without a MERGE the version that it compared with.
    """
    if history.is_overtaken(record):
        return
    last = history.last_done(alias=record.alias, model_id=record.model_id, before=record.started)
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
    found = derive_changes(
        before,
        after,
        old=old,
        new=new,
        same_template=last is None or last["text_id"] == record.text_id,
        same_logits=old is new or old_id in registry.with_logits(warehouse, record.model_id),
    )
    origin = {
        "run_id": F.lit(record.run_id),
        "source_id": F.lit(record.source_id),
        "source_version": F.lit(record.source_version).cast("long"),
        "changed_at": F.lit(record.started),
    }
    warehouse.replace_run("score_changes", found.withColumns(origin), record.run_id)


def derive_changes(
    before: DataFrame,
    after: DataFrame,
    *,
    old: ModelLabels,
    new: ModelLabels,
    same_template: bool = True,
    same_logits: bool = True,
) -> DataFrame:
    """List every company that enters or leaves a label.

    Args:
        before: rows of ``scores`` that the screen showed, under the old model.
        after: rows that it shows now, under the new model. Removed companies count as not shown.
        old: the old model's labels; the same model's in an ordinary run.
        new: the new model's labels.
        same_template: whether both sides' texts were made in the same way: then another text is the company's.
        same_logits: whether the models differ in calibration and thresholds at most.

    Returns:
        Rows of ``score_changes`` without the run's facts. Reasons: ``new`` (not shown before, or without a score),
        ``removed`` (no longer shown), ``correction`` (of this label), ``text`` (another text), ``model`` (other logits
        of another model), ``threshold`` (none of these).
    """
    both = _shown(before, "old").join(_shown(after, "new"), on="key", how="full_outer")
    moves = F.concat(
        _moves(_labels("new"), _labels("old"), entered=True), _moves(_labels("old"), _labels("new"), entered=False)
    )
    # A model keeps corrections of its own labels alone.
    is_common = F.col("label").isin(*set(old.names).intersection(new.names))
    sides = [correction_of(F.col(f"{side}_corrected"), F.col("label")) for side in ("old", "new")]
    corrected = is_common & ~sides[0].eqNullSafe(sides[1])
    model_changed = old.model_id != new.model_id and not same_logits
    return (
        both.withColumn("move", F.explode(moves))
        .select("*", "move.*")
        .select(
            F.lit(new.model_id).alias("model_id"),
            F.lit(old.model_id).alias("previous_model_id"),
            "key",
            "label",
            "entered",
            _at("old_probabilities", old.names, F.col("label")).alias("old_probability"),
            _at("new_probabilities", new.names, F.col("label")).alias("new_probability"),
            _threshold(old).alias("old_threshold"),
            _threshold(new).alias("new_threshold"),
            _reason(model_changed, same_template, corrected).alias("reason"),
        )
    )


def _shown(rows: DataFrame, side: str) -> DataFrame:
    """Return companies that are in the source, columns named after their side."""
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
    """Return the first reason that applies."""
    # With another template every text differs, although no company changed.
    is_other_text = ~F.col("old_text_hash").eqNullSafe(F.col("new_text_hash"))
    text_changed = F.lit(same_template or not model_changed) & is_other_text
    return (
        F.when(F.col("old_shown").isNull(), F.lit("new"))
        .when(F.col("new_shown").isNull(), F.lit("removed"))
        .when(corrected, F.lit("correction"))
        .when(text_changed, F.lit("text"))
        .when(F.lit(model_changed), F.lit("model"))
        .when(F.col("old_probabilities").isNull(), F.lit("new"))
        .otherwise(F.lit("threshold"))
    )


def _at(values: str, names: Sequence[str], label: Column) -> Column:
    """Return a label's value from an array in the order of ``names``; null if the model lacks the label."""
    position = F.array_position(F.array(*[F.lit(name) for name in names]), label)
    return F.try_element_at(F.col(values), F.nullif(position, F.lit(0)).cast("int"))


def _threshold(model: ModelLabels) -> Column:
    """Return the label's threshold in a model."""
    pairs = [
        part for name, value in zip(model.names, model.thresholds, strict=True) for part in (F.lit(name), F.lit(value))
    ]
    return F.try_element_at(F.create_map(*pairs), F.col("label")).cast("float")
