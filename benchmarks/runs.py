"""What benchmarks of whole runs share: a champion in a fresh warehouse, and the columns of a source of texts."""

from __future__ import annotations

from pathlib import Path

from jobs.cli_model import promote, register
from jobs.site import Site
from ptec_udf.model.artifact import load_artifact
from ptec_udf.text.template import parse_template


def make_champion(artifact: Path, config: Path) -> None:
    """Register a model and promote it, in the warehouse of a site file."""
    model_id = register(Site(config), artifact, "measured")["model_id"]
    promote(Site(config), model_id, why="to be measured")


def columns_of(artifact: str) -> dict[str, str | None]:
    """Map the template's first field to the column ``text``, and the other fields to none."""
    first, *others = parse_template(load_artifact(artifact).manifest.template).fields
    return {first: "text", **dict.fromkeys(others)}
