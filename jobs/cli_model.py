"""Commands about models: train, compare, register, promote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptec_jobs.command import account, command, is_model_id

if TYPE_CHECKING:
    from ptec_jobs.site import Site

PANEL = "Model"

ModelArgument = Annotated[str, typer.Argument(help="A registered model_id or its beginning.")]
AliasOption = Annotated[str, typer.Option(help="The alias.")]
WhyOption = Annotated[str, typer.Option(help="A reason, recorded with the change.")]


@command(PANEL)
def train(
    site: Site,
    extract: Annotated[Path | None, typer.Option(help="Folder of the extract; default: extract.out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the artifact (train.out).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier artifact.")] = False,
) -> dict[str, Any]:
    """Train a model from an extract; an interrupted training continues after its last epoch."""
    settings = {"train.extract": extract, "train.out": out, "train.overwrite": overwrite}
    config = site.override(settings).section("train")
    from ptec_training.train import train as fit  # loads torch

    return fit(config)


@command(PANEL)
def search(site: Site) -> dict[str, Any]:
    """Search training settings on validation; finished trials are kept, so a search can continue or grow."""
    from ptec_training.search import search as run_search

    return run_search(site.section("search"))


@command(PANEL)
def benchmark(site: Site) -> dict[str, Any]:
    """Compare methods on one extract; finished runs are kept, so a table can grow."""
    from ptec_training.benchmark import benchmark as run_benchmark

    return run_benchmark(site.section("benchmark"))


@command(PANEL)
def evaluate(
    site: Site,
    model_id: ModelArgument,
    alias: Annotated[str | None, typer.Option(help="Alias of the model to compare with.")] = None,
) -> dict[str, Any]:
    """Compare a model with the champion on held-out rows, and apply the gate of 'ptec promote'."""
    from ptec_jobs.evaluation import run

    return run(site.override({"evaluate.alias": alias}), model_id)


@command(PANEL)
def register(
    site: Site,
    artifact: Annotated[Path, typer.Argument(help="Folder that 'ptec train' wrote.")],
    name: Annotated[str | None, typer.Option(help="A name for people; default: the folder's.")] = None,
) -> dict[str, Any]:
    """Copy an artifact to the warehouse and add it to the table models."""
    from ptec_udf.model.artifact import load_artifact
    from ptec_udf.text.template import parse_template
    from ptec_udf.warehouse import registry

    template = parse_template(load_artifact(artifact).manifest.template)  # before Spark starts
    warehouse = site.open_warehouse("ptec register")
    folder = site.warehouse.artifact_folder.resolve()
    converts = site.section("engine").kind == "openvino"
    model_id = registry.register(warehouse, artifact, folder, name or artifact.resolve().name, converts=converts)
    return {"model_id": model_id, "reads": list(template.fields)}


@command(PANEL)
def promote(
    site: Site,
    model_id: ModelArgument,
    alias: AliasOption = "champion",
    why: WhyOption = "",
    force: Annotated[bool, typer.Option("--force", help="Promote without the gate; requires --why.")] = False,
) -> dict[str, Any]:
    """Promote a model to an alias; requires a passing gate, and an artifact and a backbone that load."""
    from ptec_training.evaluate.record import check_gate
    from ptec_udf.errors import ConfigError
    from ptec_udf.warehouse import registry
    from ptec_udf.warehouse.views import create_views

    gate = site.section("evaluate.gate")
    valid = re.fullmatch(r"[A-Za-z0-9_]+", alias) and not is_model_id(alias)
    rule = "--alias must be letters, digits and underscores, and not six or more hexadecimal digits"
    errors = [] if valid else [f"{rule}, was: {alias!r}"]
    if force and not why.strip():
        errors.append("--force requires a reason: set --why")
    if errors:
        raise ConfigError(errors)
    warehouse = site.open_warehouse("ptec promote")

    def check(champion_id: str, challenger_id: str) -> dict[str, Any]:
        return check_gate(warehouse, gate, alias, champion_id, challenger_id, force=force)

    moved = registry.promote(
        warehouse,
        model_id,
        alias=alias,
        who=account(),
        why=why,
        check=check_loads,
        gate=check if alias in gate.aliases else None,
    )
    create_views(warehouse.spark, warehouse.database)
    return moved


@command(PANEL)
def rollback(site: Site, alias: AliasOption = "champion", why: WhyOption = "") -> dict[str, Any]:
    """Point an alias to its previous model; each further call goes back one more."""
    from ptec_udf.warehouse import registry

    warehouse = site.open_warehouse("ptec rollback")
    return registry.rollback(warehouse, alias=alias, who=account(), why=why, check=check_loads)


@command(PANEL)
def models(site: Site) -> dict[str, Any]:
    """List registered models and their aliases."""
    from ptec_udf.warehouse import registry

    return {"models": registry.list_models(site.open_warehouse("ptec models"))}


@command(PANEL)
def recalibrate(site: Site) -> dict[str, Any]:
    """Derive a model with new calibration or thresholds from stored logits, without scoring."""
    config = site.section("recalibrate")
    from ptec_training.calibrate.recalibrate import recalibrate as derive_model  # needs the extra train

    return derive_model(site.open_warehouse("ptec recalibrate"), config)


def check_loads(location: str, model_id: str) -> None:
    """Load an artifact and its backbone as an executor will, which raises an error where one is broken or missing."""
    from ptec_udf.engine.torch_engine import load_scorer
    from ptec_udf.model.artifact import load_artifact

    load_scorer(load_artifact(location, model_id))
