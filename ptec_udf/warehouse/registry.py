"""Registered models and the aliases that point to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pyspark.sql import Row
from pyspark.sql import functions as F

from ptec_udf.errors import RegistryError, collect_errors
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse import registered
from ptec_udf.warehouse.tables import Warehouse

PROMOTE, ROLLBACK = "promote", "rollback"
FIRST = "first"
LEAST_ID = 6
"""Fewest characters that a model is named by."""
_MOST_NAMED = 10


def register(warehouse: Warehouse, artifact_folder: Path, keep: Path, name: str) -> str:
    """Copy an artifact to where scoring finds it, and write its models and labels rows.

    A model that is registered already stays as it is; a broken copy of it is made whole.

    Args:
        warehouse: our tables.
        artifact_folder: a trained artifact.
        keep: folder that holds one folder a registered model.
        name: shown beside the model_id.

    Returns:
        The model_id.

    Raises:
        ArtifactError: if the artifact is broken, or something else lies where it was registered before.
    """
    artifact = load_artifact(artifact_folder)
    model_id = artifact.model_id
    known = warehouse.read("models").where(F.col("model_id") == F.lit(model_id)).first()
    location = Path(known.location) if known else keep.absolute() / model_id
    of_model, of_labels = registered.model_row(artifact, location, name), registered.label_rows(artifact)
    registered.keep(artifact, location)
    if known:
        logger.info(f"model {model_id} is registered already, as {known.name!r}; nothing was changed")
        return model_id
    # A model counts once it is in models, so a stop between the two leaves nothing half done.
    warehouse.replace_model("labels", of_labels, model_id)
    warehouse.replace_model("models", [of_model], model_id)
    return model_id


def is_registered(warehouse: Warehouse, model_id: str) -> bool:
    """Tell whether there is a model of exactly this id."""
    return not warehouse.read("models").where(F.col("model_id") == F.lit(model_id)).isEmpty()


def find(warehouse: Warehouse, alias: str | None = None, model_id: str | None = None) -> dict[str, Any]:
    """The models row that an alias points to, or whose model_id begins so.

    Args:
        warehouse: our tables.
        alias: pointer; used where ``model_id`` is None.
        model_id: a model_id or its beginning.

    Raises:
        RegistryError: if there is no such alias, no such model, or more than one, or the beginning is too short.
    """
    if model_id is None:
        moves = moves_of(warehouse, str(alias))
        if not moves:
            raise RegistryError(
                f"no model has the alias {alias!r}; give it to one: ptec promote MODEL_ID --alias {alias}"
            )
        model_id = str(moves[-1].model_id)
    if len(model_id) < LEAST_ID:
        raise RegistryError(
            f"model_id must have at least {LEAST_ID} characters, was: {model_id!r}; list the models: ptec models"
        )
    rows = warehouse.read("models").where(F.col("model_id").startswith(F.lit(model_id))).limit(_MOST_NAMED).collect()
    if not rows:
        raise RegistryError(f"no registered model has an id that begins with {model_id!r}; list them: ptec models")
    if len(rows) > 1:
        ids = ", ".join(sorted(row.model_id for row in rows))
        raise RegistryError(f"model_id must be of one model, {model_id!r} begins those of: {ids}")
    return dict(rows[0].asDict())


def pointed_to(warehouse: Warehouse, alias: str) -> dict[str, Any] | None:
    """The models row that an alias points to; None where it was never given to a model."""
    return find(warehouse, alias) if moves_of(warehouse, alias) else None


def labels(warehouse: Warehouse, model_id: str) -> tuple[list[str], list[float]]:
    """Names and thresholds of a model's labels, in the order of its logits."""
    rows = warehouse.read("labels").where(F.col("model_id") == F.lit(model_id)).orderBy("position").collect()
    return [row.name for row in rows], [row.threshold for row in rows]


def with_logits(warehouse: Warehouse, model_id: str) -> list[str]:
    """Return the ids of the registered models that give texts the same logits as a model, its own among them."""
    rows = warehouse.read("models").select("model_id", "logits_id").collect()
    logits_id = next((row.logits_id for row in rows if row.model_id == model_id), None)
    return sorted({model_id, *(row.model_id for row in rows if row.logits_id == logits_id)})


def promote(
    warehouse: Warehouse,
    model_id: str,
    alias: str,
    who: str,
    why: str,
    check: Callable[[str, str], None],
    gate: Callable[[str, str], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Point an alias to a model.

    Args:
        warehouse: our tables.
        model_id: a registered model_id or its beginning.
        alias: the pointer.
        who: person or job.
        why: reason.
        check: loads the artifact of a location and model_id, and its backbone; the alias moves only if it returns.
        gate: judges the model that the alias points to and the one to come; the alias moves only if it returns, and
            what it returns (gate, evaluation_id, rules) is kept with the move. The first model of an alias has none
            to be compared with.

    Returns:
        alias, model_id, previous (both equal where nothing moved), gate.

    Raises:
        RegistryError: if there is no such model, or the alias was moved meanwhile.
    """
    row = find(warehouse, model_id=model_id)
    moves = moves_of(warehouse, alias)
    if moves and moves[-1].model_id == row["model_id"]:
        logger.info(f"alias {alias} points to {row['model_id']} already; nothing was changed")
        return {"alias": alias, "model_id": row["model_id"], "previous": row["model_id"], "gate": None}
    if not moves:
        logger.info(f"alias {alias} points to no model yet: there is nothing to compare with")
    judged = {"gate": FIRST} if not moves else gate(moves[-1].model_id, row["model_id"]) if gate else {}
    check(row["location"], row["model_id"])
    return _move(warehouse, PROMOTE, alias, row["model_id"], moves, who, why, judged)


def rollback(warehouse: Warehouse, alias: str, who: str, why: str, check: Callable[[str, str], None]) -> dict[str, Any]:
    """Point an alias to where it pointed before its last promotion; each further call goes back one more.

    Args:
        warehouse: our tables.
        alias: the pointer.
        who: person or job.
        why: reason.
        check: as of ``promote``.

    Returns:
        alias, model_id, previous, gate (null: a way back needs none).

    Raises:
        RegistryError: if there is nothing to go back to, or that does not load, or the alias was moved meanwhile.
    """
    moves = moves_of(warehouse, alias)
    standing: list[str] = []
    for row in moves:
        if row.move != ROLLBACK:
            standing.append(row.model_id)
        elif standing:  # of two ways back at the same moment, the second finds nothing more
            standing.pop()
    if len(standing) < 2:
        held = f"stands at its first model, {standing[0]}" if standing else "points to no model"
        raise RegistryError(f"alias {alias!r} cannot go back: it {held}; promote a model instead")
    earlier = find(warehouse, model_id=standing[-2])
    faults: list[str] = []
    with collect_errors(
        faults, f"alias {alias!r} cannot go back to model {earlier['model_id']}; promote one that loads: "
    ):
        check(earlier["location"], earlier["model_id"])
    if faults:
        raise RegistryError(faults)
    return _move(warehouse, ROLLBACK, alias, standing[-2], moves, who, why)


def list_models(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Registered models, the newest first, with their aliases and figures on dev."""
    newest = warehouse.read("aliases").groupBy("alias").agg(F.max_by("model_id", "at").alias("model_id")).collect()
    rows = warehouse.read("models").orderBy(F.desc("registered")).collect()
    return [
        _listed(row, sorted(pointer.alias for pointer in newest if pointer.model_id == row.model_id)) for row in rows
    ]


def _listed(row: Row, aliases: list[str]) -> dict[str, Any]:
    """What a list shows of a model."""
    overall = json.loads(row.metrics).get("splits", {}).get("dev", {}).get("overall", {})
    return {
        "model_id": row.model_id,
        "name": row.name,
        "aliases": aliases,
        "dev_macro_f1": overall.get("macro_f1"),
        "dev_map": overall.get("map"),
        "n_labels": len(row.labels),
        "backbone": row.backbone,
        "extract": f"{row.extract_source} version {row.extract_version}",
        "created": row.created.astimezone(UTC).isoformat(timespec="seconds"),
        "registered": row.registered.astimezone(UTC).isoformat(timespec="seconds"),
        "location": row.location,
    }


def moves_of(warehouse: Warehouse, alias: str) -> list[Row]:
    """All moves of an alias, oldest first."""
    return warehouse.read("aliases").where(F.col("alias") == F.lit(alias)).orderBy("at").collect()


def _move(
    warehouse: Warehouse,
    move: str,
    alias: str,
    model_id: str,
    moves: list[Row],
    who: str,
    why: str,
    judged: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Append a move that is later than all before it, whatever the clock says, if these are all that there are."""
    at, previous = datetime.now(UTC), None
    if moves:
        at = max(at, moves[-1].at.astimezone(UTC) + timedelta(microseconds=1))
        previous = moves[-1].model_id
    moved = {"alias": alias, "model_id": model_id, "previous": previous, "gate": judged.get("gate")}
    row = {**judged, **moved, "move": move, "at": at, "who": who, "why": why}
    is_of_alias = warehouse.old("aliases", "alias") == F.lit(alias)
    is_later = warehouse.old("aliases", "at") > F.lit(moves[-1].at) if moves else F.lit(True)
    warehouse.put_row("aliases", row, is_of_alias & is_later)
    written = moves_of(warehouse, alias)[len(moves)]
    if (written.model_id, written.at.astimezone(UTC)) != (model_id, at):  # to load a model takes a while
        raise RegistryError(f"alias {alias!r} must not move while a model is checked for it, it did; start again")
    return moved
