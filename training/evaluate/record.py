"""Comparisons in the table ``evaluations``, and what a promotion asks of them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import functions as F

from ptec_udf.errors import RegistryError
from ptec_udf.log import logger
from ptec_udf.warehouse.tables import Warehouse
from training.evaluate.comparison import Comparison
from training.evaluate.config import EvaluateConfig, GateConfig
from training.evaluate.gate import Outcome, apply_gate, broken

PASSED, FORCED = "passed", "forced"
NOT_COMPARED = "no evaluation"


def keep(
    warehouse: Warehouse,
    config: EvaluateConfig,
    pair: tuple[str | None, str],
    found: Comparison,
    outcomes: Sequence[Outcome],
    fingerprint: str,
    who: str,
) -> dict[str, Any]:
    """Append a comparison; return its row.

    Args:
        warehouse: our tables.
        config: that it was made with.
        pair: model_ids of champion, None where there was none, and challenger.
        found: its figures.
        outcomes: what the gate says; empty where there was no champion.
        fingerprint: of the extract.
        who: person or job.
    """
    row = {
        "evaluation_id": uuid.uuid4().hex,
        "at": datetime.now(UTC),
        "who": who,
        "alias": config.alias,
        "champion_id": pair[0],
        "challenger_id": pair[1],
        "extract_fingerprint": fingerprint,
        "split": config.split,
        "resamples": config.resamples,
        **found.model_dump(),
        "rules": [outcome.model_dump() for outcome in outcomes],
        "passed": not broken(outcomes) if outcomes else None,
    }
    warehouse.append_rows("evaluations", [row])
    return row


def readings(warehouse: Warehouse, fingerprint: str, split: str) -> int:
    """Count the comparisons that these rows judged: the more, the less they tell of the next."""
    of_rows = (F.col("extract_fingerprint") == F.lit(fingerprint)) & (F.col("split") == F.lit(split))
    return warehouse.read("evaluations").where(of_rows).count()


def newest(warehouse: Warehouse, champion_id: str, challenger_id: str) -> tuple[str, Comparison] | None:
    """Return the newest comparison of exactly these two models, behind its id."""
    of_pair = (F.col("champion_id") == F.lit(champion_id)) & (F.col("challenger_id") == F.lit(challenger_id))
    row = warehouse.read("evaluations").where(of_pair).orderBy(F.desc("at")).first()
    return row and (row["evaluation_id"], Comparison.model_validate(row.asDict(recursive=True)))


def check_gate(
    warehouse: Warehouse, gate: GateConfig, alias: str, champion_id: str, challenger_id: str, *, force: bool
) -> dict[str, Any]:
    """Apply the gate, as it is configured now, to what was recorded of two models.

    Args:
        warehouse: our tables.
        gate: the rules' limits.
        alias: the pointer that is to move.
        champion_id: model that it points to.
        challenger_id: model that it is to point to.
        force: let the challenger through in any case.

    Returns:
        What is recorded with the move: gate (``passed``, or ``forced`` with the rules that were broken),
        evaluation_id and rules.

    Raises:
        RegistryError: where a rule is broken, or there is no comparison to apply it to, unless ``force``.
    """
    evaluate = f"ptec evaluate {challenger_id} --set alias={alias} --config conf/evaluate.yaml"
    advice = "mend that and evaluate again, or give --force with --why to promote it all the same"
    evaluation_id, found = newest(warehouse, champion_id, challenger_id) or (None, None)
    outcomes: list[Outcome] = []
    if found is None or found.confidence != gate.confidence:
        lacking = "was not" if found is None else f"has intervals of confidence {found.confidence:g}"
        faults = [
            f"model {challenger_id} must be compared with {champion_id}, which alias {alias} points to, by intervals "
            f"of confidence {gate.confidence:g}, {lacking}; run {evaluate}"
        ]
    else:
        outcomes = apply_gate(found, gate)
        for one in outcomes:
            logger.info(f"gate, rule {one.rule}: {'passed' if one.passed else 'BROKEN'}: {one.says}")
        faults = [f"gate, rule {one.rule}: {one.says}; {advice}" for one in outcomes if not one.passed]
    if faults and not force:
        raise RegistryError(faults)
    return {
        "gate": f"{FORCED}: {', '.join(broken(outcomes) or [NOT_COMPARED])}" if faults else PASSED,
        "evaluation_id": evaluation_id if outcomes else None,
        "rules": [outcome.model_dump() for outcome in outcomes] or None,
    }
