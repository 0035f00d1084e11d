"""Measure the drift of a run: how different its scores are from the training extract and from earlier runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from ptec_udf.engine.result import OK, TRUNCATED
from ptec_udf.log import logger
from ptec_udf.model.manifest import Label
from ptec_udf.monitor.distribution import PROBABILITY_BINS, PROBABILITY_EDGES
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

_MAX_LOGGED = 5


def measure_drift(run: ScoringRun, record: RunRecord, version: int) -> tuple[list[str] | None, bool | None]:
    """Write the rows of table ``drift`` of a run that made a version of table ``scores``.

    Args:
        run: provides model, history and limits.
        record: the run that made the version.
        version: version of ``scores``.

    Returns:
        The violations, and whether it is time to retrain; None twice without companies.
    """
    config, warehouse = run.config.drift, run.warehouse
    measured = _measure(_companies(warehouse, record, version), run.artifact.manifest.labels)
    if not measured:
        return None, None
    history = run.history.measured(alias=record.alias, model_id=record.model_id)
    same = [row for row in history if _has_same_source(record, row)]  # errors scored again, or corrections
    earlier = [row for row in history if not _has_same_source(record, row)]
    run_ids = reference_runs([row.asDict() for row in earlier], config)
    references = warehouse.read("drift").where(F.col("run_id").isin(run_ids)).collect() if run_ids else []
    rows, violations = judge(
        measured, training_reference(run.artifact.metrics), sum_by_key(row.asDict() for row in references), config
    )
    origin = {"run_id": record.run_id, "model_id": record.model_id, "measured_at": record.started}
    warehouse.replace_run_rows("drift", [row | origin for row in rows], record.run_id)
    is_over = bool(violations) or any(row["drifted"] for row in same)
    retrain = is_time_to_retrain([*(bool(row["drifted"]) for row in earlier), is_over], config)
    drifted = [str(one) for one in violations]
    _log(drifted, retrain)
    return drifted, retrain


def _has_same_source(record: RunRecord, row: Row) -> bool:
    return (row["source_id"], row["source_version"]) == (record.source_id, record.source_version)


def _log(drifted: list[str], retrain: bool) -> None:
    for line in drifted[:_MAX_LOGGED]:
        logger.warning(f"drift: {line}")
    if len(drifted) > _MAX_LOGGED:
        logger.warning(f"drift: {len(drifted) - _MAX_LOGGED} more; list them with: ptec drift")
    if retrain:
        logger.warning("drift: it is time to retrain")


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
    texts = _count_texts(companies)
    cells = _count_cells(companies, labels)
    fresh_texts, fresh_cells = [[row for row in rows if row["is_fresh"]] for rows in (texts, cells)]
    n_fresh, n_all = (sum(row["n"] for row in rows) for rows in (fresh_texts, texts))
    found = _of_texts(ALL, texts) | _of_cells(ALL, cells, labels)
    if 0 < 2 * n_fresh < n_all:
        found |= _of_texts(FRESH, fresh_texts) | _of_cells(FRESH, fresh_cells, labels)
    return found


def _count_texts(companies: DataFrame) -> list[Row]:
    """Count companies by status and length of the text, in half doublings: 1, 2, 3, 4, 6, 8, 12."""
    tokens = F.col("n_tokens") + F.col("n_truncated")
    power = F.pow(F.lit(2.0), F.floor(F.log2(F.greatest(tokens, F.lit(1)).cast("double"))))
    edge = F.when(tokens >= 1.5 * power, F.ceil(1.5 * power)).otherwise(power).cast("int")
    has_length = F.col("status").isin(OK, TRUNCATED)
    grouped = companies.groupBy("is_fresh", "status", F.when(has_length, edge).alias("tokens"))
    return grouped.agg(F.count("*").alias("n"), F.sum(tokens).alias("total")).collect()


def _count_cells(companies: DataFrame, labels: list[Label]) -> list[Row]:
    """Count the probabilities of each label by bin."""
    cells = companies.select("is_fresh", F.posexplode("probabilities").alias("position", "p"))
    threshold = F.array(*[F.lit(label.threshold).cast("float") for label in labels])[F.col("position")]
    grouped = cells.groupBy("is_fresh", "position", _bin(F.col("p").cast("double")).alias("bin"))
    over = F.sum((F.col("p") >= threshold).cast("int")).alias("over")
    return grouped.agg(F.count("*").alias("n"), F.sum("p").alias("total"), over).collect()


def _bin(p: Column) -> Column:
    """Return the index of a probability's bin, as ``distribution.count_probabilities`` does."""
    first, second, last = (float(PROBABILITY_EDGES[at]) for at in (1, 2, -1))
    step = _logit(F.lit(second)) - _logit(F.lit(first))
    between = F.floor((_logit(p) - _logit(F.lit(first))) / step + 1e-9) + 1
    return F.when(p < first, 0).when(p >= last, len(PROBABILITY_EDGES) - 1).otherwise(between).cast("int")


def _logit(p: Column) -> Column:
    return F.log(p) - F.log(1 - p)


def _of_texts(population: str, rows: Iterable[Row]) -> dict[Key, Distribution]:
    """Return the distributions of status and length."""
    found = {}
    for figure in (STATUS, TOKENS):
        counts: Counter[str] = Counter()
        total = 0
        for row in rows:
            if row[figure] is not None:
                counts[str(row[figure])] += row["n"]
                total += row["total"] or 0
        if n := sum(counts.values()):
            mean = total / n if figure == TOKENS else None
            found[Key(population, figure)] = Distribution(n, dict(sorted(counts.items())), mean)
    return found


def _of_cells(population: str, rows: Iterable[Row], labels: list[Label]) -> dict[Key, Distribution]:
    """Return the distributions of each label's probabilities, and of the labels themselves."""
    counts: list[Counter[str]] = [Counter() for _ in labels]
    totals, over = [0.0] * len(labels), [0] * len(labels)
    for row in rows:
        at = row["position"]
        counts[at][PROBABILITY_BINS[row["bin"]]] += row["n"]
        totals[at] += row["total"]
        over[at] += row["over"]
    n = counts[0].total()
    if not n:
        return {}
    names = [label.name for label in labels]
    found = {Key(population, MIX): Distribution(n, dict(zip(names, over, strict=True)), sum(over) / n)}
    for at, name in enumerate(names):
        found[Key(population, PROBABILITY, name)] = Distribution(n, dict(counts[at]), totals[at] / n, over[at])
    return found
