"""Compare a registered model with the one in use, on rows that neither has learned from.

spark-submit --properties-file conf/spark-defaults.conf jobs/evaluate.py MODEL_ID --config conf/evaluate.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.command import account, show_pairs, show_rows
from ptec_udf.config_file import load_config
from ptec_udf.errors import SourceError
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse
from training.data.folder import read_extract_record
from training.evaluate.config import EvaluateConfig
from training.evaluate.gate import apply_gate
from training.evaluate.record import keep, readings


def run(model_id: str, config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Compare, apply the gate and record both; without a champion the model is measured alone."""
    config = load_config(EvaluateConfig, config_file, overrides)
    _check_extracts(config)
    warehouse = Warehouse(build_session(config.warehouse, "ptec evaluate"), config.warehouse.database)
    warehouse.ensure()
    challenger = registry.find(warehouse, model_id=model_id)
    champion = registry.pointed_to(warehouse, config.alias)
    if champion and champion["model_id"] == challenger["model_id"]:
        logger.info(f"alias {config.alias} points to {champion['model_id']} already; there is nothing to compare")
        return {"model_id": challenger["model_id"], "champion_id": champion["model_id"], "passed": None}
    if champion is None:
        logger.info(
            f"alias {config.alias} points to no model yet: there is nothing to compare with, so it is measured alone"
        )
    return _compare(warehouse, config, challenger, champion)


def _check_extracts(config: EvaluateConfig) -> None:
    """Refuse folders that hold no extract before Spark starts."""
    faults = []
    for folder in filter(None, (config.extract, config.champion_extract)):
        try:
            read_extract_record(folder)
        except SourceError as error:
            faults += error.errors
    if faults:
        raise SourceError(faults)


def _compare(
    warehouse: Warehouse, config: EvaluateConfig, challenger: dict[str, Any], champion: dict[str, Any] | None
) -> dict[str, Any]:
    """Load both models, and keep what is found."""
    from training.evaluate.evaluate import evaluate  # needs the extra train

    made = load_artifact(challenger["location"], challenger["model_id"])
    before = load_artifact(champion["location"], champion["model_id"]) if champion else None
    found = evaluate(config, made, before)
    outcomes = apply_gate(found, config.gate) if champion else []
    pair = (before.model_id if before else None, made.model_id)
    fingerprint = read_extract_record(config.extract)["fingerprint"]
    row = keep(warehouse, config, pair, found, outcomes, fingerprint, account())
    return {
        "model_id": row["challenger_id"],
        **{name: value for name, value in row.items() if name not in ("challenger_id", "labels", "resamples", "who")},
        "labels": len(found.labels),
        "differences": [one.model_dump() for one in found.differences if one.label is None],
        "readings": readings(warehouse, fingerprint, config.split),
    }


def show(result: dict[str, Any]) -> None:
    """Print what was compared, the figures side by side, and each rule with its outcome."""
    tables = ("champion", "challenger", "differences", "rules")
    show_pairs({name: value for name, value in result.items() if name not in (*tables, "extract_fingerprint", "alias")})
    if figures := result.get("challenger"):
        before, gains = result["champion"], {one["figure"]: one for one in result["differences"]}
        show_rows([_line(name, value, before.get(name), gains.get(name)) for name, value in figures.items()])
    rules = result.get("rules", [])
    show_pairs(
        {f"rule {rule['rule']}": f"{'passed' if rule['passed'] else 'BROKEN'}: {rule['says']}" for rule in rules}
    )


def _line(name: str, value: float | None, before: float | None, gain: dict[str, Any] | None) -> dict[str, Any]:
    """Lay out one figure of both models."""
    interval = "" if gain is None or gain["low"] is None else f"{gain['low']:+.4f} to {gain['high']:+.4f}"
    line = {"figure": name, "challenger": value, "champion": before, "interval of the difference": interval}
    return {key: "" if cell is None else cell for key, cell in line.items()}


if __name__ == "__main__":
    from jobs.cli import app

    app(["evaluate", *sys.argv[1:]])
