"""Registered models and the aliases that point to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import Row
from pyspark.sql import functions as F

from ptec_udf.engine.openvino_engine import convert_artifact
from ptec_udf.errors import RegistryError, UserError
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse.registered import copy_artifact, label_rows, model_row
from ptec_udf.warehouse.tables import Warehouse

MIN_ID = 6  # characters that name a model at least; a script whose variable is empty then promotes nothing

_ROLLBACK = "rollback"

Check = Callable[[str, str], None]
"""Loads the artifact of a location and a model_id, and its backbone; raises if an alias must not point to it."""


def register(warehouse: Warehouse, artifact_folder: Path, folder: Path, name: str, *, converts: bool = False) -> str:
    """Copy an artifact to its own folder in ``folder`` and write its rows; return the model_id.

    Of a registered model only a broken copy is repaired. ``converts``: convert the network for the engine openvino.
    """
    artifact = load_artifact(artifact_folder)
    is_model = F.col("model_id") == F.lit(artifact.model_id)
    known = warehouse.read("models").where(is_model).first()
    location = Path(known["location"]) if known else folder.absolute() / artifact.model_id
    copy_artifact(artifact, location)
    if converts and artifact.manifest.backbone:
        convert_artifact(artifact, location)
    if known:
        logger.info(f"model {artifact.model_id} is already registered as {known['name']!r}; its rows are unchanged")
    else:
        # A model is registered once it is in models, so its labels come first.
        warehouse.replace("labels", label_rows(artifact), is_model)
        warehouse.replace("models", [model_row(artifact, location, name)], is_model)
    return artifact.model_id


def find(warehouse: Warehouse, alias: str | None = None, model_id: str | None = None) -> dict[str, Any]:
    """Return the row of ``models`` for an alias, or for the beginning of a model_id, which counts before the alias.

    Raise RegistryError if there is no such alias or model, or the beginning is too short or not unique.
    """
    if model_id is None:
        moves = moves_of(warehouse, str(alias))
        if not moves:
            raise RegistryError(f"no model has the alias {alias!r}; promote one: ptec promote MODEL_ID --alias {alias}")
        model_id = str(moves[-1]["model_id"])
    if len(model_id) < MIN_ID:
        raise RegistryError(
            f"model_id must have at least {MIN_ID} characters, was: {model_id!r}; list the models: ptec models"
        )
    rows = warehouse.read("models").where(F.col("model_id").startswith(F.lit(model_id))).collect()
    if not rows:
        raise RegistryError(f"no registered model has an id that begins with {model_id!r}; list them: ptec models")
    if len(rows) > 1:
        ids = ", ".join(sorted(row["model_id"] for row in rows))
        raise RegistryError(f"model_id must name one model, {model_id!r} begins several: {ids}")
    return dict(rows[0].asDict())


def labels(warehouse: Warehouse, model_id: str) -> tuple[list[str], list[float]]:
    """Return names and thresholds of a model's labels, in the order of its logits."""
    rows = warehouse.read("labels").where(F.col("model_id") == F.lit(model_id)).orderBy("position").collect()
    return [row["name"] for row in rows], [row["threshold"] for row in rows]


def with_logits(warehouse: Warehouse, model_id: str) -> list[str]:
    """Return the ids of the registered models with the same logits as a model, its own among them."""
    rows = warehouse.read("models").select("model_id", "logits_id").collect()
    logits_id = next((row["logits_id"] for row in rows if row["model_id"] == model_id), None)
    return sorted({model_id, *(row["model_id"] for row in rows if row["logits_id"] == logits_id)})


def promote(
    warehouse: Warehouse,
    model_id: str,
    alias: str,
    who: str,
    why: str,
    check: Check,
    gate: Callable[[str, str], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Point an alias to a model, named by the beginning of its id; return alias, model_id, previous and gate.

    ``gate`` compares the current model with the new one; it raises, or returns columns of ``aliases``.
    """
    row, moves = find(warehouse, model_id=model_id), moves_of(warehouse, alias)
    previous = moves[-1]["model_id"] if moves else None
    if previous == row["model_id"]:
        logger.info(f"alias {alias} already points to {previous}; nothing was changed")
        return {"alias": alias, "model_id": previous, "previous": previous, "gate": None}
    if previous is None:
        logger.info(f"alias {alias} points to no model yet: the gate does not apply")
    gated = {"gate": "first"} if previous is None else gate(previous, row["model_id"]) if gate else {}
    check(row["location"], row["model_id"])
    facts = {"model_id": row["model_id"], "move": "promote", "alias": alias, "who": who, "why": why, **gated}
    return _move(warehouse, facts, moves)


def rollback(warehouse: Warehouse, alias: str, who: str, why: str, check: Check) -> dict[str, Any]:
    """Point an alias to its model before the last promotion, once more with each call; return what ``promote`` does."""
    moves = moves_of(warehouse, alias)
    promoted = _promoted(moves)
    if len(promoted) < 2:
        state = f"points to its first model, {promoted[0]}" if promoted else "points to no model"
        raise RegistryError(f"alias {alias!r} cannot go back: it {state}; promote a model instead")
    earlier = find(warehouse, model_id=promoted[-2])
    try:
        check(earlier["location"], earlier["model_id"])
    except UserError as error:
        prefix = f"alias {alias!r} cannot go back to model {earlier['model_id']}; promote another model: "
        raise RegistryError([prefix + one for one in error.errors]) from None
    facts = {"model_id": promoted[-2], "move": _ROLLBACK, "alias": alias, "who": who, "why": why}
    return _move(warehouse, facts, moves)


def list_models(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Return the registered models, the newest first, with their aliases and figures on dev."""
    newest = warehouse.read("aliases").groupBy("alias").agg(F.max_by("model_id", "at").alias("model_id"))
    aliases: dict[str, list[str]] = {}
    for row in newest.orderBy("alias").collect():
        aliases.setdefault(row["model_id"], []).append(row["alias"])
    models = warehouse.read("models").orderBy(F.desc("registered")).collect()
    return [_summary(row, aliases.get(row["model_id"], [])) for row in models]


def moves_of(warehouse: Warehouse, alias: str) -> list[Row]:
    """Return all moves of an alias, oldest first."""
    return warehouse.read("aliases").where(F.col("alias") == F.lit(alias)).orderBy("at").collect()


def _promoted(moves: Sequence[Row]) -> list[str]:
    """Return the models whose promotion was not rolled back, the current one last."""
    models: list[str] = []
    for row in moves:
        if row["move"] != _ROLLBACK:
            models.append(row["model_id"])
        elif models:
            models.pop()
    return models


def _summary(row: Row, aliases: list[str]) -> dict[str, Any]:
    overall = json.loads(row["metrics"]).get("splits", {}).get("dev", {}).get("overall", {})
    times = {name: row[name].astimezone(UTC).isoformat(timespec="seconds") for name in ("created", "registered")}
    return {
        "model_id": row["model_id"],
        "name": row["name"],
        "aliases": aliases,
        "dev_macro_f1": overall.get("macro_f1"),
        "dev_map": overall.get("map"),
        "n_labels": len(row["labels"]),
        "backbone": row["backbone"],
        "extract": f"{row['extract_source']} version {row['extract_version']}",
        **times,
        "location": row["location"],
    }


def _move(warehouse: Warehouse, facts: Mapping[str, Any], moves: Sequence[Row]) -> dict[str, Any]:
    """Append a move; it is later than ``moves``, whatever the clock shows."""
    alias, last, at = facts["alias"], moves[-1] if moves else None, datetime.now(UTC)
    is_known = warehouse.old("aliases", "alias") == F.lit(alias)
    if last is not None:
        at = max(at, last["at"].astimezone(UTC) + timedelta(microseconds=1))
        is_known &= warehouse.old("aliases", "at") > F.lit(last["at"])
    previous = last and last["model_id"]
    warehouse.put_row("aliases", {**facts, "previous": previous, "at": at}, is_known)
    written = moves_of(warehouse, alias)[len(moves)]
    if (written["model_id"], written["at"].astimezone(UTC)) != (facts["model_id"], at):
        raise RegistryError(f"alias {alias!r} was moved by another process during the check; run the command again")
    return {"alias": alias, "model_id": facts["model_id"], "previous": previous, "gate": facts.get("gate")}
