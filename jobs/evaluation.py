"""``ptec evaluate``: compare a registered model with the one of an alias, on rows that neither has learned from."""

from __future__ import annotations

from typing import Any

from ptec_jobs.command import account
from ptec_jobs.site import Site
from ptec_training.data.folder import read_extract_record
from ptec_training.evaluate.gate import apply_gate
from ptec_training.evaluate.record import n_evaluations, of_pair, save
from ptec_udf.errors import SourceError, collect_errors
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse import registry


def run(site: Site, model_id: str) -> dict[str, Any]:
    """Compare, apply the gate and record both; without a champion the model is measured alone.

    Raise ConfigError for errors in the section evaluate, SourceError without an extract, RegistryError without a model.
    """
    config = site.section("evaluate")
    errors: list[str] = []
    for folder in filter(None, (config.extract, config.champion_extract)):
        with collect_errors(errors):
            read_extract_record(folder)
    if errors:  # before Spark starts
        raise SourceError(errors)
    warehouse = site.open_warehouse("ptec evaluate")
    challenger = registry.find(warehouse, model_id=model_id)
    champion = registry.find(warehouse, config.alias) if registry.moves_of(warehouse, config.alias) else None
    if champion is None:
        logger.info(f"alias {config.alias} points to no model: the model is measured alone")
    elif champion["model_id"] == challenger["model_id"]:
        logger.info(f"alias {config.alias} points to {champion['model_id']} already: nothing to compare")
        return {"model_id": challenger["model_id"], "champion_id": champion["model_id"], "passed": None}
    from ptec_training.evaluate.compare import evaluate  # needs the extra train

    new = load_artifact(challenger["location"], challenger["model_id"])
    current = load_artifact(champion["location"], champion["model_id"]) if champion else None
    found = evaluate(config, new, current)
    fingerprint = read_extract_record(config.extract)["fingerprint"]
    if current and (earlier := of_pair(warehouse, current.model_id, new.model_id)):
        logger.warning(
            f"these models have been compared {len(earlier)} times before: ptec promote uses the first comparison, "
            f"{earlier[0]['evaluation_id']}; this one is only shown"
        )
    outcomes = apply_gate(found, config.gate) if current else []
    pair = (current.model_id if current else None, new.model_id)
    row = save(warehouse, config, pair, found, outcomes, fingerprint, account())
    return {
        "model_id": row["challenger_id"],
        **{name: value for name, value in row.items() if name not in ("challenger_id", "labels", "who")},
        "labels": len(found.labels),
        "differences": [one.model_dump() for one in found.differences if one.label is None],
        "n_evaluations": n_evaluations(warehouse, fingerprint, config.split),
    }
