"""Collect the facts of a report from the tables: keys and labels, but no texts."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F

from ptec_udf.errors import RegistryError
from ptec_udf.monitor.failures import kinds_of
from ptec_udf.monitor.judge import ALL, PROBABILITY
from ptec_udf.nightly.runs import DONE, FAILED, SUPERSEDED
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse

_MAX_KEYS = 10  # companies shown for a label and a direction
_MAX_RUNS = 30


def find_run(warehouse: Warehouse, *, run_id: str | None, model_id: str | None, alias: str) -> Row:
    """Return the row of the named run, or of the last finished run of a model, or else of an alias.

    Raise RegistryError if there is none.
    """
    runs = warehouse.read("runs")
    is_done = F.col("outcome") == DONE
    if run_id is not None:
        wanted, described = F.col("run_id").startswith(F.lit(run_id)), f"with an id that begins with {run_id!r}"
    elif model_id is not None:
        known = registry.find(warehouse, model_id=model_id)["model_id"]
        wanted, described = is_done & (F.col("model_id") == F.lit(known)), f"of model {known} that is done"
    else:
        wanted, described = is_done & (F.col("alias") == F.lit(alias)), f"of alias {alias!r} that is done"
    is_whole_id = F.col("run_id").eqNullSafe(F.lit(run_id))  # X-1 is also the beginning of X-10
    found = runs.where(wanted).orderBy(F.desc(is_whole_id), F.desc("ended")).first()
    if found is None:
        raise RegistryError(
            f"there is no run {described}; list them: ptec sql 'SELECT run_id, started FROM run_summary'"
        )
    return found


def collect(warehouse: Warehouse, run: Row) -> dict[str, Any]:
    """Collect the facts of a run; a failed run has no changes."""
    of_run = F.col("run_id") == F.lit(run["run_id"])
    model = registry.find(warehouse, model_id=run["model_id"])
    drift = [row.asDict() for row in warehouse.read("drift").where(of_run).collect()]
    is_active = (F.col("model_id") == F.lit(run["model_id"])) & F.col("removed_in").isNull()
    active = warehouse.read("scores").where(is_active)
    changes = warehouse.read("score_changes").where(of_run & F.lit(run["outcome"] != FAILED))
    same = F.col("alias") == F.lit(run["alias"]) if run["alias"] else F.col("model_id") == F.lit(run["model_id"])
    runs = warehouse.read("runs").where(same & F.col("ended").isNotNull())
    later = runs.where((F.col("ended") > F.lit(run["ended"])) & (F.col("outcome") != SUPERSEDED))
    newest = later.orderBy(F.desc("ended")).first()
    moves = registry.moves_of(warehouse, run["alias"] or "")
    earlier = runs.where((F.col("outcome") == DONE) & (F.col("ended") <= F.lit(run["ended"])))
    return {
        "run": run.asDict(),
        "model": model | {"metrics": json.loads(model["metrics"])},
        "gate": next((row["gate"] for row in reversed(moves) if row["model_id"] == run["model_id"]), None),
        "companies": active.count(),
        "moved_companies": dict(changes.groupBy("entered").agg(F.countDistinct("key")).collect()),
        "labels": _labels(warehouse, run, _moves(changes), active, drift),
        "drift": drift,
        "runs": [row.asDict() for row in earlier.orderBy(F.desc("ended")).limit(_MAX_RUNS).collect()],
        "later": newest.asDict() if newest is not None else None,
        "errors": [kind._asdict() for kind in kinds_of(active)],
    }


def _moves(changes: DataFrame) -> dict[str, dict[bool, dict[str, Any]]]:
    """Return by label and direction the number of companies by reason, and the most probable companies."""
    found: dict[str, dict[bool, dict[str, Any]]] = defaultdict(dict)
    for row in changes.groupBy("label", "entered", "reason").count().orderBy("reason").collect():
        side = found[row["label"]].setdefault(row["entered"], {"companies": 0, "reasons": {}, "first": []})
        side["companies"] += row["count"]
        side["reasons"][row["reason"]] = row["count"]
    probability = F.when(F.col("entered"), F.col("new_probability")).otherwise(F.col("old_probability"))
    by_side = Window.partitionBy("label", "entered").orderBy(F.desc_nulls_last(probability), "key")
    first = changes.withColumn("position", F.row_number().over(by_side)).where(F.col("position") <= _MAX_KEYS)
    for row in first.orderBy("position").collect():
        found[row["label"]][row["entered"]]["first"].append(row.asDict())
    return found


def _labels(
    warehouse: Warehouse, run: Row, moves: dict[str, Any], active: DataFrame, drift: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the labels with their entries, exits and current companies; those with most changes first."""
    by_label = active.select(F.explode("labels").alias("label")).groupBy("label").count().collect()
    n_companies = {row["label"]: row["count"] for row in by_label}
    measured = {row["label"]: row for row in drift if (row["population"], row["figure"]) == (ALL, PROBABILITY)}
    thresholds = dict(zip(*registry.labels(warehouse, run["model_id"]), strict=True))
    found = []
    for name in [*thresholds, *(name for name in moves if name not in thresholds)]:  # labels of the previous model
        sides = moves.get(name, {})
        facts = {"label": name, "threshold": thresholds.get(name), "drift": measured.get(name)}
        facts["companies"] = n_companies.get(name, 0) if name in thresholds else None
        facts |= {"entered": sides.get(True), "left": sides.get(False)}
        found.append(facts | {"moved": sum(side["companies"] for side in sides.values())})
    return sorted(found, key=lambda row: (-row["moved"], row["label"]))
