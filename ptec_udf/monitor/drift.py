"""Measure how far a night is from the training extract and from the nights before, from the scores that it left."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from ptec_udf.engine.result import OK, TRUNCATED
from ptec_udf.engine.udf import task_slots
from ptec_udf.log import logger
from ptec_udf.model.manifest import Label
from ptec_udf.monitor.count import CELLS, Counted, add_up, counting
from ptec_udf.monitor.distribution import probability_counts
from ptec_udf.monitor.judge import (
    ALL,
    FRESH,
    LABELS,
    LANGUAGE,
    MIX,
    PROBABILITY,
    STATUS,
    TOKENS,
    Distribution,
    Key,
    judge,
    reference_runs,
    retrain,
    sums_by_key,
)
from ptec_udf.monitor.training import training_reference
from ptec_udf.nightly.plan import ScoringRun
from ptec_udf.nightly.runs import RunRecord
from ptec_udf.warehouse.tables import Warehouse

_SHOWN = 5


def measure_drift(run: ScoringRun, record: RunRecord, version: int) -> tuple[list[str] | None, bool | None]:
    """Write the rows of table ``drift`` of a run that made a version of ``scores``.

    Args:
        run: whose model, history and limits count.
        record: the run that made the version.
        version: of table ``scores``.

    Returns:
        What drifted over its limit, and whether it is time to retrain; None twice without companies.
    """
    config, warehouse = run.config.drift, run.warehouse
    measured = run.history.measured(alias=record.alias, model_id=record.model_id)
    earlier = [row for row in measured if not _is_of(record, row)]
    before = reference_runs([row.asDict() for row in earlier], config)
    nights = warehouse.read("drift").where(F.col("run_id").isin(before)).collect() if before else []
    n_tasks = task_slots(warehouse.spark)
    found = _distributions(_companies(warehouse, record, version), run.artifact.manifest.labels, n_tasks)
    if not found:  # without companies nothing is known of drift, which is not that there is none
        return None, None
    rows, violations = judge(
        found, training_reference(run.artifact.metrics), sums_by_key(row.asDict() for row in nights), config
    )
    origin = {"run_id": record.run_id, "model_id": record.model_id, "measured_at": record.started}
    warehouse.replace_run_rows("drift", [row | origin for row in rows], record.run_id)
    drifted = [str(one) for one in violations]
    is_over = bool(violations) or any(row["drifted"] for row in measured if _is_of(record, row))
    is_signal = retrain([*(bool(row["drifted"]) for row in earlier), is_over], config)
    _say(drifted, is_signal)
    return drifted, is_signal


def _is_of(record: RunRecord, run: Row) -> bool:
    """Return whether a run read the version of the source that the record's run read."""
    return (run["source_id"], run["source_version"]) == (record.source_id, record.source_version)


def _say(drifted: list[str], is_signal: bool) -> None:
    for line in drifted[:_SHOWN]:
        logger.warning(f"drift, {line}")
    if len(drifted) > _SHOWN:
        logger.warning(f"drift, and {len(drifted) - _SHOWN} more: ptec drift lists them")
    if is_signal:
        logger.warning("drift says that it is time to train again, see docs/retraining.md")


def _companies(warehouse: Warehouse, record: RunRecord, version: int) -> DataFrame:
    """Return companies in the source, with whether they are fresh: new, or with another text.

    Corrected companies are not fresh: they are no fair sample of what is new.
    """
    of_model = F.col("model_id") == F.lit(record.model_id)
    companies = warehouse.read("scores", version).where(of_model & F.col("removed_in").isNull())
    before = warehouse.read("scores", max(version - 1, 0)).where(of_model & F.col("removed_in").isNull())
    same = before.select("key", F.col("text_hash").alias("old_hash"), F.lit(True).alias("was_active"))
    is_corrected = F.coalesce(F.size("corrected"), F.lit(0)) > 0
    is_other = F.col("was_active").isNull() | ~F.col("text_hash").eqNullSafe(F.col("old_hash"))
    is_fresh = (F.col("run_id") == F.lit(record.run_id)) & ~is_corrected & is_other
    return companies.join(same, on="key", how="left").withColumn("is_fresh", is_fresh)


def _distributions(companies: DataFrame, labels: list[Label], n_tasks: int) -> dict[Key, Distribution]:
    """Measure all figures; of fresh companies alone only where they are the fewer, since else they are all."""
    texts, corrected = _count_texts(companies), _corrected(companies, labels)
    scored = companies.where(F.col("probabilities").isNotNull()).select("is_fresh", "probabilities")
    # A task gives a row for each label, so that many small ones would be more rows than companies.
    cells = scored.coalesce(n_tasks).mapInArrow(counting([label.threshold for label in labels]), CELLS)
    counted = add_up((row.asDict() for row in cells.collect()), len(labels))
    fresh = [row for row in texts if row["is_fresh"]]
    found = _of_population(FRESH, fresh, counted[True], labels)
    if 2 * sum(row["count"] for row in fresh) >= sum(row["count"] for row in texts):
        found = {}
    counted[False].add(counted[True])
    return found | _of_population(ALL, texts, counted[False], labels, corrected)


def _count_texts(companies: DataFrame) -> list[Row]:
    """Count companies by all that is known of their texts; lengths by half doublings: 1, 2, 3, 4, 6, 8, 12."""
    tokens = F.col("n_tokens") + F.col("n_truncated")
    power = F.pow(F.lit(2.0), F.floor(F.log2(F.greatest(tokens, F.lit(1)).cast("double"))))
    half = F.when(tokens >= 1.5 * power, F.ceil(1.5 * power)).otherwise(power)
    grouped = companies.groupBy(
        "is_fresh",
        F.col("status").alias(STATUS),
        LANGUAGE,
        # A text that is not there, or failed, has no length: statuses are a figure of their own.
        F.when(F.col("status").isin(OK, TRUNCATED), half).cast("int").alias(TOKENS),
        F.size("labels").alias(LABELS),
    )
    return grouped.agg(F.count("*").alias("count"), F.sum(tokens).alias("all_tokens")).collect()


def _corrected(companies: DataFrame, labels: list[Label]) -> dict[str, dict[str, Any]]:
    """Compare what analysts say of labels with the probabilities of these, by label."""
    names = F.array(*[F.lit(label.name) for label in labels])
    said = companies.where(F.col("probabilities").isNotNull()).select(
        F.map_from_arrays(names, "probabilities").alias("probability"), F.explode("corrected").alias("said")
    )
    sums = said.groupBy("said.label").agg(
        F.count("*").alias("corrected"),
        F.sum(F.col("said.is_true").cast("int")).alias("corrected_true"),
        F.sum(F.try_element_at("probability", F.col("said.label"))).alias("corrected_expected"),
    )
    return {row["label"]: {name: row[name] for name in row.__fields__[1:]} for row in sums.collect()}


def _of_population(
    population: str,
    texts: list[Row],
    counted: Counted,
    labels: list[Label],
    corrected: dict[str, dict[str, Any]] | None = None,
) -> dict[Key, Distribution]:
    """Gather the distributions of a population; none of one that is empty."""
    found: dict[Key, Distribution] = {}
    if not texts:
        return found
    totals = {
        TOKENS: sum(row["all_tokens"] for row in texts if row[TOKENS] is not None),
        LABELS: sum(row[LABELS] * row["count"] for row in texts),
    }
    for figure in (STATUS, LANGUAGE, TOKENS, LABELS):
        counts: Counter[str] = Counter()
        for row in texts:
            if row[figure] is not None:  # of a text that there is not, or that was scored before languages were told
                counts[str(row[figure])] += row["count"]
        if not (n_companies := sum(counts.values())):
            continue
        mean = totals[figure] / n_companies if figure in totals else None
        found[Key(population, figure)] = Distribution(n_companies, dict(sorted(counts.items())), mean)
    return found | _of_labels(population, counted, labels, corrected or {})


def _of_labels(
    population: str, counted: Counted, labels: list[Label], corrected: dict[str, dict[str, Any]]
) -> dict[Key, Distribution]:
    """Gather what probabilities say of a population: of each label, and of how labels are mixed."""
    n = counted.companies
    if not n:
        return {}
    mix = {label.name: int(over) for label, over in zip(labels, counted.over, strict=True)}
    found = {Key(population, MIX): Distribution(n, mix, sum(mix.values()) / n)}
    for at, label in enumerate(labels):
        more = {"share": float(counted.over[at]) / n, **corrected.get(label.name, {})}
        mean = float(counted.total[at]) / n
        counts = probability_counts(counted.bins[at])
        found[Key(population, PROBABILITY, label.name)] = Distribution(n, counts, mean, more)
    return found
