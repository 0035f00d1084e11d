"""Comparisons in the table ``evaluations``, and the gate that a promotion applies to them.

The first comparison of a pair decides: who repeats a comparison until it passes, selects by chance. Later ones are
shown, and promoting by them needs ``--force``.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import functions as F

from ptec_training.evaluate.gate import Comparison, EvaluateConfig, GateConfig, RuleResult, apply_gate, broken_rules
from ptec_udf.errors import RegistryError
from ptec_udf.log import logger
from ptec_udf.warehouse.tables import Warehouse


def save(
    warehouse: Warehouse,
    config: EvaluateConfig,
    pair: tuple[str | None, str],
    found: Comparison,
    results: Sequence[RuleResult],
    fingerprint: str,
    who: str,
) -> dict[str, Any]:
    """Append a comparison of a pair of model_ids (champion, challenger) with the gate's results; return its row."""
    row = {
        "evaluation_id": uuid.uuid4().hex,
        "at": datetime.now(UTC),
        "who": who,
        "alias": config.alias,
        "champion_id": pair[0],
        "challenger_id": pair[1],
        "extract_fingerprint": fingerprint,
        "split": config.split,
        **found.model_dump(),
        "rules": [result.model_dump() for result in results],
        "passed": not broken_rules(results) if results else None,
    }
    warehouse.append("evaluations", [row])
    return row


def n_evaluations(warehouse: Warehouse, fingerprint: str, split: str) -> int:
    """Count the comparisons on these rows, of any models: the more, the less the next one proves."""
    is_same = (F.col("extract_fingerprint") == F.lit(fingerprint)) & (F.col("split") == F.lit(split))
    return warehouse.read("evaluations").where(is_same).count()


def of_pair(warehouse: Warehouse, champion_id: str, challenger_id: str) -> list[dict[str, Any]]:
    """Return the comparisons of exactly these two models, the first one first."""
    is_pair = (F.col("champion_id") == F.lit(champion_id)) & (F.col("challenger_id") == F.lit(challenger_id))
    rows = warehouse.read("evaluations").where(is_pair).orderBy("at", "evaluation_id").collect()
    return [row.asDict(recursive=True) for row in rows]


def check_gate(
    warehouse: Warehouse, gate: GateConfig, alias: str, champion_id: str, challenger_id: str, *, force: bool
) -> dict[str, Any]:
    """Apply the gate to the first recorded comparison; return a row's gate columns, or raise a RegistryError."""
    found, results = of_pair(warehouse, champion_id, challenger_id), []
    if found:
        _log_evaluations(warehouse, found)
        results = apply_gate(Comparison.model_validate(found[0]), gate)
        advice = "train a better model, or promote with --force and a reason in --why"
        errors = [f"gate, rule {one.rule}: {one.message}; {advice}" for one in results if not one.passed]
    else:
        rule = f"model {challenger_id} must be compared with {champion_id}, which alias {alias} points to"
        errors = [f"{rule}; run ptec evaluate {challenger_id} --alias {alias}"]
    if errors and not force:
        raise RegistryError(errors)
    return {
        "gate": f"forced: {', '.join(broken_rules(results) or ['no evaluation'])}" if errors else "passed",
        "evaluation_id": found[0]["evaluation_id"] if found else None,
        "rules": [result.model_dump() for result in results] or None,
    }


def _log_evaluations(warehouse: Warehouse, found: list[dict[str, Any]]) -> None:
    """Log which comparison decides, how often its rows were used, and which comparisons came later."""
    first, n = found[0], n_evaluations(warehouse, found[0]["extract_fingerprint"], found[0]["split"])
    rows = f"{first['split']} of extract {first['extract_fingerprint'][:12]}"
    logger.info(f"gate: evaluation {first['evaluation_id']} on {rows} decides; these rows have been used {n} times")
    for later in found[1:]:
        about = f"evaluation {later['evaluation_id']} of the same models came later and does not count"
        logger.info(f"gate: {about} (passed: {later['passed']}, on {later['split']})")
