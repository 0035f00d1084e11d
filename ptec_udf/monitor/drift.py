"""Measure the drift of a run: how different its scores are from the training extract and from earlier runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from ptec_udf.engine.scorer import EMPTY, ERROR, OK, TRUNCATED
from ptec_udf.log import logger
from ptec_udf.model.manifest import Label
from ptec_udf.monitor.distribution import MAX_LOGIT, N_STEPS, PROBABILITY_BINS
from ptec_udf.monitor.judge import (
    ALL,
    FRESH,
    MIX,
    PROBABILITY,
    STATUS,
    TOKENS,
    Distribution,
    Key,
    is_time_to_retrain,
    judge,
    reference_runs,
    sum_by_key,
)
from ptec_udf.monitor.training import training_reference
from ptec_udf.nightly.plan import ScoringRun
from ptec_udf.nightly.runs import RunRecord
from ptec_udf.warehouse.tables import Warehouse

_STATUSES = (OK, TRUNCATED, EMPTY, ERROR)
_N_TEXT_FIGURES = 2  # status and tokens; the labels follow


def measure_drift(run: ScoringRun, record: RunRecord, version: int) -> tuple[list[str] | None, bool | None]:
    """Write the rows of table ``drift`` of the run that made a version of table ``scores``.

    Return the violations, and whether it is time to retrain; None twice without companies.
    """
    config, warehouse = run.config.drift, run.warehouse
    measured = _measure(_companies(warehouse, record, version), run.artifact.manifest.labels)
    if not measured:
        return None, None
    history = run.history.measured(alias=record.alias, model_id=record.model_id)
    source = record.source_id, record.source_version
    same = [row for row in history if (row["source_id"], row["source_version"]) == source]  # corrections, for instance
    earlier = [row for row in history if (row["source_id"], row["source_version"]) != source]
    run_ids = reference_runs([row.asDict() for row in earlier], config)
    references = warehouse.read("drift").where(F.col("run_id").isin(run_ids)).collect() if run_ids else []
    sums = sum_by_key(row.asDict() for row in references)
    rows, drifted = judge(measured, training_reference(run.artifact.metrics), sums, config)
    origin = {"run_id": record.run_id, "model_id": record.model_id, "measured_at": record.started}
    warehouse.replace_run("drift", [row | origin for row in rows], record.run_id)
    is_over = bool(drifted) or any(row["drifted"] for row in same)
    retrain = is_time_to_retrain([*(bool(row["drifted"]) for row in earlier), is_over], config)
    if drifted:
        logger.warning(f"drift: {len(drifted)} limits exceeded, first {drifted[0]}; list them with: ptec drift")
    if retrain:
        logger.warning("drift: it is time to retrain")
    return drifted, retrain


def _companies(warehouse: Warehouse, record: RunRecord, version: int) -> DataFrame:
    """Return the active companies with ``is_fresh``: new, or with another text.

    Corrected companies are not fresh: analysts do not choose them at random.
    """
    is_active = (F.col("model_id") == F.lit(record.model_id)) & F.col("removed_in").isNull()
    companies = warehouse.read("scores", version).where(is_active)
    before = warehouse.read("scores", max(version - 1, 0)).where(is_active)
    before = before.select("key", F.col("text_hash").alias("old_hash"), F.lit(True).alias("was_active"))
    is_corrected = F.coalesce(F.size("corrected"), F.lit(0)) > 0
    is_changed = F.col("was_active").isNull() | ~F.col("text_hash").eqNullSafe(F.col("old_hash"))
    is_fresh = (F.col("run_id") == F.lit(record.run_id)) & ~is_corrected & is_changed
    return companies.join(before, on="key", how="left").withColumn("is_fresh", is_fresh)


def _measure(companies: DataFrame, labels: list[Label]) -> dict[Key, Distribution]:
    """Measure all figures of all companies, and of the fresh ones if these are fewer than half."""
    rows = _count(companies, labels).collect()
    found = _distributions(ALL, rows, labels)
    fresh = _distributions(FRESH, [row for row in rows if row["is_fresh"]], labels)
    is_part = fresh and 2 * fresh[Key(FRESH, STATUS)].companies < found[Key(ALL, STATUS)].companies
    return found | fresh if is_part else found


def _count(companies: DataFrame, labels: list[Label]) -> DataFrame:
    """Count companies by figure and bin: is_fresh, position, bin, n, total, over.

    Position 0 is the status, 1 the tokens, which only a text with a score has, and the labels follow.
    """
    status = F.array_position(F.array(*map(F.lit, _STATUSES)), F.col("status")) - 1
    tokens = F.when(F.col("status").isin(OK, TRUNCATED), F.col("n_tokens") + F.col("n_truncated"))
    values = F.array(status.cast("double"), tokens.cast("double"))
    values = F.concat(values, F.coalesce(F.col("probabilities").cast("array<double>"), F.array().cast("array<double>")))
    cells = companies.select("is_fresh", F.posexplode(values).alias("position", "value")).where("value IS NOT NULL")
    value, position = F.col("value"), F.col("position")
    thresholds = F.array(*[F.lit(label.threshold).cast("float").cast("double") for label in labels])
    is_label = position >= _N_TEXT_FIGURES
    is_over = is_label & (value >= F.get(thresholds, position - _N_TEXT_FIGURES))
    bin_ = F.when(is_label, _probability_bin(value)).when(position == 1, _length_bin(value)).otherwise(value)
    totals = F.count("*").alias("n"), F.sum("value").alias("total"), F.sum(is_over.cast("int")).alias("over")
    return cells.groupBy("is_fresh", "position", bin_.cast("int").alias("bin")).agg(*totals)


def _length_bin(tokens: Column) -> Column:
    """Return the lower edge of the bin, in steps of the square root of 2: 1, 2, 3, 4, 6, 8, 11."""
    return F.round(F.pow(F.lit(2.0), F.floor(2 * F.log2(F.greatest(tokens, F.lit(1.0)))) / 2))


def _probability_bin(p: Column) -> Column:
    """Return the index of a probability's bin, as ``distribution.count_probabilities`` does."""
    inside = F.least(F.greatest(p, F.lit(1e-9)), F.lit(1 - 1e-9))
    return F.width_bucket(F.log(inside / (1 - inside)), F.lit(-MAX_LOGIT), F.lit(MAX_LOGIT), F.lit(N_STEPS))


def _distributions(population: str, rows: Iterable[Row], labels: list[Label]) -> dict[Key, Distribution]:
    """Collect rows of ``_count`` to distributions, and add the label mix."""
    found: dict[Key, Distribution] = {}
    for row in rows:
        position, bin_ = row["position"], row["bin"]
        if position == 0:
            key, name = Key(population, STATUS), _STATUSES[bin_]
        elif position == 1:
            key, name = Key(population, TOKENS), str(bin_)
        else:
            key, name = Key(population, PROBABILITY, labels[position - _N_TEXT_FIGURES].name), PROBABILITY_BINS[bin_]
        one = found.setdefault(key, Distribution())
        one.companies += row["n"]
        one.counts[name] += row["n"]
        if key.figure != STATUS:
            one.total = (one.total or 0.0) + row["total"]
        if key.figure == PROBABILITY:
            one.over = (one.over or 0) + row["over"]
    by_label = {key.label: one for key, one in found.items() if key.figure == PROBABILITY}
    if by_label:
        over = Counter({str(label): one.over or 0 for label, one in by_label.items()})
        n_companies = max(one.companies for one in by_label.values())
        found[Key(population, MIX)] = Distribution(n_companies, over, over.total())
    return found
