"""Shadows: other models that score the champion's source, each in a run of its own after the champion's.

No view shows them. A shadow's failure is logged and recorded, and does not fail the champion's run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ptec_udf.config import ModelChoice, ScoreConfig, ShadowConfig
from ptec_udf.errors import PtecError, RegistryError, UserError, location_of
from ptec_udf.log import logger
from ptec_udf.nightly.plan import ScoringRun, pin_run
from ptec_udf.nightly.runs import FAILED, SKIPPED
from ptec_udf.text.template import parse_template
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse

_RESULT = ("run_id", "model_id", "outcome", "counts", "error")
_MODEL_ID = re.compile(r"[0-9a-f]{6,64}")


def score_shadows(
    champion: ScoringRun, run_id: str, score_run: Callable[[ScoringRun], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Score the configured shadows on the source version of the champion.

    Args:
        champion: the champion's run.
        run_id: its id.
        score_run: scores a run and returns its row.

    Returns:
        By the shadow's name: run_id, model_id, outcome (skipped and failed among them), counts, error.
    """
    scored, found = {champion.model_id: "the model of the run itself"}, {}
    for name in champion.config.shadows:
        row = _score(champion, name, scored, run_id, score_run)
        found[name] = {column: row.get(column) for column in _RESULT}
    return found


def _score(
    champion: ScoringRun,
    name: str,
    scored: dict[str, str],
    champion_run_id: str,
    score_run: Callable[[ScoringRun], dict[str, Any]],
) -> dict[str, Any]:
    """Score one shadow; ``scored`` has the models that need no other run."""
    try:
        model, choice = _find(champion.warehouse, name)
        model_id = model["model_id"]
    except RegistryError as error:
        return _skip(name, None, str(error))
    if model_id in scored:
        return _skip(name, model_id, f"it is {scored[model_id]}")
    scored[model_id] = f"the model of shadow {name}"
    try:
        logger.info(f"shadow {name}")
        config = _config(champion, choice, model["template"], champion_run_id)
        return score_run(pin_run(champion.warehouse, config))
    except Exception as error:
        message = describe_error(error)
        logger.warning(f"shadow {name} failed; the champion's run is done: {message}")
        run_id = getattr(error, "run_id", None)
        return {"run_id": run_id, "model_id": model_id, "outcome": FAILED, "error": message}


def _find(warehouse: Warehouse, name: str) -> tuple[dict[str, Any], ModelChoice]:
    """Return the row of table ``models`` that an alias points to, or else of a model_id."""
    try:
        return registry.find(warehouse, alias=name), ModelChoice(alias=name)
    except RegistryError:
        if not _MODEL_ID.fullmatch(name):
            raise
    model = registry.find(warehouse, model_id=name)
    return model, ModelChoice(id=model["model_id"])


def _skip(name: str, model_id: str | None, reason: str) -> dict[str, Any]:
    logger.warning(f"shadow {name} is skipped: {reason}")
    return {"model_id": model_id, "outcome": SKIPPED, "error": reason}


def _config(champion: ScoringRun, choice: ModelChoice, template: str, champion_run_id: str) -> ScoreConfig:
    """Return the configuration of a shadow's run."""
    values = champion.config.model_dump() | {"shadows": [], "shadow_of": champion_run_id, "model": choice.model_dump()}
    values["source"]["version"] = champion.source.version
    fields, columns = parse_template(template).fields, champion.config.source.columns
    values["source"]["columns"] = {field: column for field, column in columns.items() if field in fields}
    return ShadowConfig.model_validate(values)


def describe_error(error: Exception) -> str:
    """Return what went wrong, without quoting messages of other libraries."""
    if isinstance(error, UserError):
        return "; ".join(error.errors)
    return str(error) if isinstance(error, PtecError) else f"{type(error).__name__} in {location_of(error)}"
