"""Register, promote, roll back and list models.

spark-submit --properties-file conf/spark-defaults.conf jobs/promote.py promote MODEL_ID --config conf/evaluate.yaml
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.command import account
from jobs.site import load_site, open_warehouse, opened
from ptec_udf.engine.load import load_scorer
from ptec_udf.errors import ConfigError
from ptec_udf.model.artifact import load_artifact
from ptec_udf.text.template import parse_template
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.views import ensure_views
from training.evaluate.record import check_gate

_ALIAS = re.compile(r"[A-Za-z0-9_]+")  # as configurations name them


def run_register(
    artifact: Path, name: str | None, config_file: Path | None, overrides: Sequence[str]
) -> dict[str, Any]:
    """Register an artifact, and say which columns it reads; a broken one is refused before Spark starts."""
    template = parse_template(load_artifact(artifact).manifest.template)
    warehouse, config = open_warehouse(config_file, overrides, "ptec register")
    model_id = registry.register(warehouse, artifact, config.artifact_folder.resolve(), name or artifact.resolve().name)
    return {"model_id": model_id, "reads": list(template.fields)}


def run_promote(
    model_id: str, alias: str, why: str, config_file: Path | None, overrides: Sequence[str], force: bool = False
) -> dict[str, Any]:
    """Move an alias to a model that passes the gate, and whose artifact and backbone load."""
    site = load_site(config_file, overrides)
    gate = site.gate
    faults = [] if _ALIAS.fullmatch(alias) else [f"--alias must be letters, digits and underscores, was: {alias!r}"]
    if force and not why.strip():
        faults.append("--force must come with a reason, --why was empty; say why the gate is passed over")
    if faults:
        raise ConfigError(faults)
    warehouse = opened(site.warehouse, "ptec promote")
    moved = registry.promote(
        warehouse,
        model_id,
        alias=alias,
        who=account(),
        why=why,
        check=check_loads,
        gate=(lambda previous, new: check_gate(warehouse, gate, alias, previous, new, force=force))
        if alias in gate.aliases
        else None,
    )
    ensure_views(warehouse)
    return moved


def run_rollback(alias: str, why: str, config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Move an alias back."""
    warehouse, _ = open_warehouse(config_file, overrides, "ptec rollback")
    return registry.rollback(warehouse, alias=alias, who=account(), why=why, check=check_loads)


def run_models(config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """List models."""
    warehouse, _ = open_warehouse(config_file, overrides, "ptec models")
    return {"models": registry.list_models(warehouse)}


def check_loads(location: str, model_id: str) -> None:
    """Load an artifact and its backbone, as an executor will.

    Raises:
        ArtifactError: when the artifact is broken or of another model.
        BackboneError: when the backbone is missing, or not the one trained with.
    """
    load_scorer(load_artifact(location, model_id))


if __name__ == "__main__":
    from jobs.cli import app

    app(sys.argv[1:])
