"""What a report shows of a run, from our tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from ptec_udf.errors import RegistryError
from ptec_udf.monitor.failures import kinds_of
from ptec_udf.monitor.judge import ALL, PROBABILITY
from ptec_udf.nightly.runs import COMMAND, DONE, FAILED, SUPERSEDED
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse

KEYS_OF_A_LABEL = 10
"""Most companies that are named of a label and a direction."""

NIGHTS_SHOWN = 30


def find_run(warehouse: Warehouse, *, run_id: str | None, model_id: str | None, alias: str) -> Row:
    """Return the row of a run: the one that is named, or the last that is done of a model or else of an alias.

    Raises:
        RegistryError: if there is none.
    """
    runs = warehouse.read("runs").where((F.col("command") == COMMAND) & F.col("model_id").isNotNull())
    if run_id is not None:
        wanted, told = F.col("run_id").startswith(F.lit(run_id)), f"with an id that begins with {run_id!r}"
    elif model_id is not None:
        known = registry.find(warehouse, model_id=model_id)["model_id"]
        wanted, told = (
            (F.col("model_id") == F.lit(known)) & (F.col("outcome") == DONE),
            f"of model {known} that is done",
        )
    else:
        wanted, told = (F.col("alias") == F.lit(alias)) & (F.col("outcome") == DONE), f"of alias {alias!r} that is done"
    # A whole id is the beginning of others: X-1 of X-10.
    is_it = F.col("run_id").eqNullSafe(F.lit(run_id))
    found = runs.where(wanted).orderBy(F.desc(is_it), F.desc("ended")).first()
    if found is None:
        raise RegistryError(f"there is no run {told}; list them: ptec sql 'SELECT run_id, started FROM run_summary'")
    return found


def collect(warehouse: Warehouse, run: Row) -> dict[str, Any]:
    """Gather all that the report of a run shows; keys and labels, but no texts."""
    of_run = F.col("run_id") == F.lit(run["run_id"])
    model = registry.find(warehouse, model_id=run["model_id"])
    drift = [row.asDict() for row in warehouse.read("drift").where(of_run).collect()]
    scores = warehouse.read("scores").where(F.col("model_id") == F.lit(run["model_id"]))
    # What a night that failed wanted to change has not come about.
    changes = warehouse.read("score_changes").where(of_run & F.lit(run["outcome"] != FAILED))
    return {
        "run": run.asDict(),
        "model": model | {"metrics": json.loads(model["metrics"])},
        "labels": _labels(warehouse, run["model_id"], changes, _standing(scores), drift),
        "drift": drift,
        "nights": _nights(warehouse, run),
        "failed_since": _failed_since(warehouse, run),
        "shares": _shares(warehouse, run),
        "errors": [asdict(kind) for kind in kinds_of(scores.where(of_run))],
    }


def _standing(scores: DataFrame) -> dict[str, int]:
    """Count the companies that have each label now, as screens show them."""
    named = scores.where(F.col("removed_in").isNull()).select(F.explode("labels").alias("label"))
    return {row["label"]: row["count"] for row in named.groupBy("label").count().collect()}


def _labels(
    warehouse: Warehouse,
    model_id: str,
    changes: DataFrame,
    standing: Mapping[str, int],
    drift: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Say of each label who entered and left, and how many stand; those that moved most come first."""
    names, thresholds = registry.labels(warehouse, model_id)
    measured = {row["label"]: row for row in drift if (row["population"], row["figure"]) == (ALL, PROBABILITY)}
    moved: dict[str, dict[bool, dict[str, Any]]] = {}
    for row in _moves(changes):
        moved.setdefault(row["label"], {})[row["entered"]] = row.asDict()
    found = []
    others = [(name, None) for name in moved if name not in names]  # labels of the model before
    for name, threshold in [*zip(names, thresholds, strict=True), *others]:
        sides = moved.get(name, {})
        found.append(
            {
                "label": name,
                "threshold": threshold,
                "drift": measured.get(name),
                "companies": standing.get(name, 0) if name in names else None,
                "entered": sides.get(True),
                "left": sides.get(False),
                "moved": sum(side["companies"] for side in sides.values()),
            }
        )
    return sorted(found, key=lambda row: (-row["moved"], row["label"]))


def _moves(changes: DataFrame) -> list[Row]:
    """Count companies by label and direction, with their reasons and the keys of the most probable ones."""
    of_label = Window.partitionBy("label", "entered")
    probability = F.coalesce(
        F.when(F.col("entered"), F.col("new_probability")).otherwise(F.col("old_probability")), F.lit(0.0)
    )
    place = F.row_number().over(of_label.orderBy(F.desc(probability), "key"))
    named: Column = F.when(
        place <= KEYS_OF_A_LABEL, F.struct(place.alias("place"), "key", "reason", "old_probability", "new_probability")
    )
    rows = changes.select("label", "entered", "reason", named.alias("named"))
    reasons = rows.groupBy("label", "entered", "reason").agg(
        F.count("*").alias("count"), F.collect_list("named").alias("named")
    )
    return (
        reasons.groupBy("label", "entered")
        .agg(
            F.sum("count").alias("companies"),
            F.map_from_entries(F.collect_list(F.struct("reason", "count"))).alias("reasons"),
            F.array_sort(F.flatten(F.collect_list("named"))).alias("named"),
        )
        .collect()
    )


def _alike(warehouse: Warehouse, run: Row) -> DataFrame:
    """Return runs of a run's alias, or of its model where it has none."""
    alike = (F.col("command") == COMMAND) & F.col("alias").eqNullSafe(F.lit(run["alias"]))
    if run["alias"] is None:
        alike &= F.col("model_id") == F.lit(run["model_id"])
    return warehouse.read("runs").where(alike)


def _failed_since(warehouse: Warehouse, run: Row) -> dict[str, Any] | None:
    """Return the last night after this run, if it failed: whoever reads of this run alone would think all is well."""
    later = _alike(warehouse, run).where((F.col("ended") > F.lit(run["ended"])) & (F.col("outcome") != SUPERSEDED))
    last = later.orderBy(F.desc("ended")).first()
    return last.asDict() if last is not None and last["outcome"] == FAILED else None


def _nights(warehouse: Warehouse, run: Row) -> list[dict[str, Any]]:
    """Return the last nights that came to an end, up to this run."""
    names = (
        "run_id",
        "model_id",
        "started",
        "ended",
        "outcome",
        "counts",
        "tokens",
        "padding",
        "rows_per_second",
        "drifted",
        "retrain",
    )
    runs = _alike(warehouse, run).where((F.col("outcome") == DONE) & (F.col("ended") <= F.lit(run["ended"])))
    last = runs.orderBy(F.desc("ended")).limit(NIGHTS_SHOWN).select(*names).collect()
    return [row.asDict() for row in reversed(last)]


def _shares(warehouse: Warehouse, run: Row) -> dict[str, list[float]]:
    """Return each label's share of the companies over the last nights of the model, oldest first."""
    drift = warehouse.read("drift").where(
        (F.col("model_id") == F.lit(run["model_id"]))
        & (F.col("population") == ALL)
        & (F.col("figure") == PROBABILITY)
        & (F.col("measured_at") <= F.lit(run["started"]))
    )
    last = drift.select("measured_at").distinct().orderBy(F.desc("measured_at")).limit(NIGHTS_SHOWN)
    rows = drift.join(last, on="measured_at", how="left_semi").orderBy("measured_at").select("label", "share").collect()
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["label"], []).append(row["share"])
    return found
