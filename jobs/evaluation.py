"""``ptec evaluate``: compare a registered model with the one of an alias, on rows that neither has learned from."""

from __future__ import annotations

from typing import Any

from jobs.command import account
from jobs.output import show_pairs, show_rows
from jobs.site import Site
from ptec_udf.errors import SourceError
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse
from training.data.folder import read_extract_record
from training.evaluate.config import EvaluateConfig
from training.evaluate.gate import apply_gate
from training.evaluate.record import n_evaluations, of_pair, save


def run(site: Site, model_id: str) -> dict[str, Any]:
    """Compare, apply the gate and record both; without a champion the model is measured alone.

    Raises:
        ConfigError: when the section evaluate has errors.
        SourceError: when a folder contains no extract.
        RegistryError: when there is no such model.
    """
    config = site.section(EvaluateConfig, "evaluate")
    _check_extracts(config)
    warehouse = site.open_warehouse("ptec evaluate")
    challenger = registry.find(warehouse, model_id=model_id)
    champion = registry.pointed_to(warehouse, config.alias)
    if champion and champion["model_id"] == challenger["model_id"]:
        logger.info(f"alias {config.alias} points to {champion['model_id']} already: nothing to compare")
        return {"model_id": challenger["model_id"], "champion_id": champion["model_id"], "passed": None}
    if champion is None:
        logger.info(f"alias {config.alias} points to no model: the model is measured alone")
    return _compare(warehouse, config, challenger, champion)


def _check_extracts(config: EvaluateConfig) -> None:
    """Refuse folders without an extract before Spark starts."""
    errors = []
    for folder in filter(None, (config.extract, config.champion_extract)):
        try:
            read_extract_record(folder)
        except SourceError as error:
            errors += error.errors
    if errors:
        raise SourceError(errors)


def _compare(
    warehouse: Warehouse, config: EvaluateConfig, challenger: dict[str, Any], champion: dict[str, Any] | None
) -> dict[str, Any]:
    """Measure both models, apply the gate and record the result."""
    from training.evaluate.compare import evaluate  # needs the extra train

    new = load_artifact(challenger["location"], challenger["model_id"])
    current = load_artifact(champion["location"], champion["model_id"]) if champion else None
    found = evaluate(config, new, current)
    outcomes = apply_gate(found, config.gate) if champion else []
    pair = (current.model_id if current else None, new.model_id)
    fingerprint = read_extract_record(config.extract)["fingerprint"]
    if pair[0] and (earlier := of_pair(warehouse, pair[0], pair[1])):
        logger.warning(
            f"these models have been compared {len(earlier)} times before: ptec promote goes by the first, "
            f"{earlier[0]['evaluation_id']}; this one is shown only"
        )
    row = save(warehouse, config, pair, found, outcomes, fingerprint, account())
    return {
        "model_id": row["challenger_id"],
        **{name: value for name, value in row.items() if name not in ("challenger_id", "labels", "resamples", "who")},
        "labels": len(found.labels),
        "differences": [one.model_dump() for one in found.differences if one.label is None],
        "n_evaluations": n_evaluations(warehouse, fingerprint, config.split),
    }


def show(result: dict[str, Any]) -> None:
    """Print both models' figures side by side, and each rule of the gate with its outcome."""
    tables = ("champion", "challenger", "differences", "rules")
    show_pairs({name: value for name, value in result.items() if name not in (*tables, "extract_fingerprint", "alias")})
    if figures := result.get("challenger"):
        current, gains = result["champion"], {one["figure"]: one for one in result["differences"]}
        show_rows([_line(name, value, current.get(name), gains.get(name)) for name, value in figures.items()])
    outcomes = {True: "passed", False: "BROKEN"}
    rules = result.get("rules", [])
    show_pairs({f"rule {rule['rule']}": f"{outcomes[rule['passed']]}: {rule['message']}" for rule in rules})


def _line(name: str, value: float | None, current: float | None, gain: dict[str, Any] | None) -> dict[str, Any]:
    """Lay out one figure of both models."""
    interval = "" if gain is None or gain["low"] is None else f"{gain['low']:+.4f} to {gain['high']:+.4f}"
    line = {"figure": name, "challenger": value, "champion": current, "interval of the difference": interval}
    return {key: "" if cell is None else cell for key, cell in line.items()}
