"""Shadows: other models that score in the champion's night, each in its own partition, shown by no view.

The night is the champion's: whatever becomes of a shadow is said and recorded, and never ends the night.
A shadow's run is found like any other, so a rerun goes on where it was killed, and once it is promoted its
scores are those that the views show.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ptec_udf.config import ModelChoice, ScoreConfig, ShadowConfig
from ptec_udf.errors import HeldError, PtecError, RegistryError, UserError
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.nightly.plan import Night, check_alias, new_record, night_of
from ptec_udf.nightly.runs import COMMAND, FAILED, SKIPPED, History
from ptec_udf.text.template import fields_in
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.source import PinnedSource
from ptec_udf.warehouse.tables import Warehouse

_TOLD = ("run_id", "model_id", "outcome", "counts", "error")
_MODEL_ID = re.compile(r"[0-9a-f]{6,64}")


@dataclass(frozen=True)
class Shadow:
    """A shadow of the configuration, looked up.

    Attributes:
        name: as configured, an alias or the beginning of a model_id.
        alias: the name, if it is an alias.
        model: its row of models; None where there is none.
        skipped: why it is not scored; None for one that is.
    """

    name: str
    alias: str | None
    model: dict[str, Any] | None
    skipped: str | None = None


def find_shadows(champion: Night) -> list[Shadow]:
    """Look up the shadows of a night, and warn of those that cannot be scored, before anything is."""
    taken = {champion.record.model_id: "the model of the night itself"}
    found = [_find(champion.warehouse, name, taken) for name in champion.config.shadows]
    for shadow in found:
        if shadow.skipped:
            logger.warning(f"shadow {shadow.name} is skipped: {shadow.skipped}")
    return found


def _find(warehouse: Warehouse, name: str, taken: dict[str, str]) -> Shadow:
    """Look up one; ``taken`` says what scores a model already, and is added to."""
    try:
        model, alias = _look_up(warehouse, name)
    except RegistryError as error:
        return Shadow(name, None if _MODEL_ID.fullmatch(name) else name, None, str(error))
    if other := taken.get(model["model_id"]):
        return Shadow(name, alias, model, f"it is {other}")
    taken[model["model_id"]] = f"the model of shadow {name}"
    return Shadow(name, alias, model)


def _look_up(warehouse: Warehouse, name: str) -> tuple[dict[str, Any], str | None]:
    """Return a model's row, and the name where it is an alias."""
    try:
        return registry.find(warehouse, alias=name), name
    except RegistryError:
        if not _MODEL_ID.fullmatch(name):
            raise
        return registry.find(warehouse, model_id=name), None


def score_shadows(
    champion: Night, shadows: Sequence[Shadow], result: dict[str, Any], run: Callable[[Night], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Score shadows on the version of the source that the champion has scored.

    Args:
        champion: the champion's night.
        shadows: from ``find_shadows``.
        result: the row of the champion's run.
        run: scores a night and returns the row of its run.

    Returns:
        What became of each, by its name: run_id, model_id, outcome (skipped and failed among them), counts, error.
    """
    # The night may have pinned it anew, or taken a newer version of a source that keeps none.
    read = {name: result[f"source_{name}"] for name in ("version", "fingerprint")}
    source = replace(champion.source, source_id=result["source_id"], **read)
    ended = {}
    for shadow in shadows:
        row = _ended(champion, shadow, source, result["run_id"], run)
        ended[shadow.name] = {name: row.get(name) for name in _TOLD}
    return ended


def _ended(
    champion: Night, shadow: Shadow, source: PinnedSource, shadow_of: str, run: Callable[[Night], dict[str, Any]]
) -> dict[str, Any]:
    """Score one shadow or record that it is skipped; what goes wrong is its outcome."""
    try:
        config = _config(champion.config, shadow, source, shadow_of)
        if shadow.model is None or shadow.skipped:
            return _write_skipped(champion.warehouse, shadow, config, source)
        logger.info(f"shadow {shadow.name}")
        return _score(champion.warehouse, shadow.model, config, source, run)
    except Exception as error:
        if not isinstance(error, PtecError):
            # The place is shown and the message is not, since it may quote a company's text.
            logger.info("".join(traceback.format_tb(error.__traceback__)))
        said = _said(error)
        logger.warning(f"shadow {shadow.name} failed, the champion's night is done: {said}")
        return {"model_id": shadow.model and shadow.model["model_id"], "outcome": FAILED, "error": said}


def _config(config: ScoreConfig, shadow: Shadow, source: PinnedSource, shadow_of: str) -> ShadowConfig:
    """Make the configuration of a shadow's run."""
    values = config.model_dump() | {"shadows": [], "shadow_of": shadow_of}
    # What scores stand from a newer version, if another process was faster, is then looked up.
    values["source"]["version"] = source.version if source.kind == "delta" else None
    if shadow.model:
        choice = ModelChoice(alias=shadow.alias) if shadow.alias else ModelChoice(id=shadow.model["model_id"])
        values["model"] = choice.model_dump()
        values["source"]["columns"] = fields_in(shadow.model["template"], config.source.columns)
    return ShadowConfig.model_validate(values)


def _score(
    warehouse: Warehouse,
    model: dict[str, Any],
    config: ShadowConfig,
    source: PinnedSource,
    run: Callable[[Night], dict[str, Any]],
) -> dict[str, Any]:
    """Score with the model of a shadow; also what is refused before its run begins leaves a row."""
    try:
        if not config.model.id:  # the champion's night took a while
            check_alias(warehouse, config.model.alias, model["model_id"])
        return run(_night(warehouse, model, config, source))
    except (HeldError, UserError) as error:
        facts: dict[str, Any] = {"model_id": model["model_id"], "template": model["template"], "source": source}
        new_record(History.read(warehouse), config, **facts).write_failed(warehouse, _said(error))
        raise


def _night(warehouse: Warehouse, model: dict[str, Any], config: ShadowConfig, source: PinnedSource) -> Night:
    """Make the night of a row of models."""
    return night_of(warehouse, config, load_artifact(model["location"], model["model_id"]), source)


def _said(error: Exception) -> str:
    """Say what went wrong without quoting what others said."""
    if isinstance(error, UserError):
        return "; ".join(error.errors)
    return str(error) if isinstance(error, PtecError) else type(error).__name__


def _write_skipped(warehouse: Warehouse, shadow: Shadow, config: ShadowConfig, source: PinnedSource) -> dict[str, Any]:
    """Record a shadow that is not scored."""
    model_id = shadow.model["model_id"] if shadow.model else None
    names: dict[str, Any] = {"model_id": model_id or "", "alias": shadow.alias, "source": source, "text_id": ""}
    row = {
        "run_id": History.read(warehouse).run_id(**names, retries_errors=False),
        "command": COMMAND,
        "config": config.stored(),
        "source_id": source.source_id,
        "source_name": source.name,
        "source_version": source.version,
        "source_fingerprint": source.fingerprint,
        "model_id": model_id,
        "alias": shadow.alias,
        "started": datetime.now(UTC),
        "ended": datetime.now(UTC),
        "outcome": SKIPPED,
        "error": shadow.skipped,
    }
    warehouse.append_rows("runs", [row])
    return row
