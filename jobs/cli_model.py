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


@command(PANEL, needs_file=False)
def train(
    site: Site,
    extract: Annotated[Path | None, typer.Option(help="Folder of the extract; default: extract.out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the artifact (train.out).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier artifact.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Train from this CSV or Parquet file, without a warehouse.")] = None,
    text_columns: Annotated[str | None, typer.Option(help="With --csv: columns of the text, with commas.")] = None,
    labels_column: Annotated[str | None, typer.Option(help="With --csv: column of the labels.")] = None,
    labels_delimiter: Annotated[str, typer.Option(help="With --csv: what separates labels in text.")] = ";",
    key_column: Annotated[str | None, typer.Option(help="With --csv: column that identifies a company.")] = None,
    min_positives: Annotated[int, typer.Option(min=1, help="With --csv: companies that a label needs.")] = 15,
) -> dict[str, Any]:
    """Train a model from an extract or a file; an interrupted training continues after its last epoch."""
    site = site.override({"train.extract": extract, "train.out": out, "train.overwrite": overwrite})
    if csv is not None:
        from ptec_jobs.predict import train_file

        labels = {"column": labels_column, "delimiter": labels_delimiter, "min_positives": min_positives}
        return train_file(site, csv, text_columns, labels, key_column)
    config = site.require_file().section("train")
    from ptec_training.train import train as fit  # loads torch

    return fit(config)


@command(PANEL)
def predict(
    model: Annotated[str, typer.Argument(help="Folder of an artifact, hf:ORG/NAME or an MLflow address.")],
    file: Annotated[Path | None, typer.Argument(help="CSV or Parquet file; default: texts of standard input.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV or Parquet file with all probabilities.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column with whole texts; default: the template's.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows printed at most.")] = 20,
) -> dict[str, Any]:
    """Score a file or the lines of standard input, without Spark."""
    from ptec_jobs.predict import predict as predict_file

    return predict_file(model, file, out, text_column, limit)


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
    mlflow: Annotated[str | None, typer.Option(help="Also register it in MLflow by this name (model.mlflow).")] = None,
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
    result = {"model_id": model_id, "reads": list(template.fields)}
    if registered := site.override({"model.mlflow": mlflow}).section("model").mlflow:
        from ptec_udf.warehouse import mlflow_aliases

        result["mlflow_version"] = mlflow_aliases.register(artifact, model_id, registered)
    return result


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
    _move_in_mlflow(site, moved)
    return moved


@command(PANEL)
def rollback(site: Site, alias: AliasOption = "champion", why: WhyOption = "") -> dict[str, Any]:
    """Point an alias to its previous model; each further call goes back one more."""
    from ptec_udf.warehouse import registry

    warehouse = site.open_warehouse("ptec rollback")
    moved = registry.rollback(warehouse, alias=alias, who=account(), why=why, check=check_loads)
    _move_in_mlflow(site, moved)
    return moved


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


def _move_in_mlflow(site: Site, moved: dict[str, Any]) -> None:
    """Point MLflow's alias to the same model, if the site file names MLflow's model."""
    if name := site.section("model").mlflow:
        from ptec_udf.warehouse import mlflow_aliases

        mlflow_aliases.move_alias(name, moved["alias"], moved["model_id"])


def check_loads(location: str, model_id: str) -> None:
    """Load an artifact and its backbone as an executor will, which raises an error where one is broken or missing."""
    from ptec_udf.engine.torch_engine import load_scorer
    from ptec_udf.model.artifact import load_artifact

    load_scorer(load_artifact(location, model_id))
