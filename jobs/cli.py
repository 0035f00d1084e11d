"""The command line ``ptec``: one command per step, each a few lines around the function that does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs import cli_nights
from jobs.command import JsonOption, SetOption, SiteOption, own_config, run_command, show_pairs, show_rows
from ptec_udf import __version__

app = typer.Typer(
    name="ptec",
    help="Train PTEC models from warehouse tables and score every company every night.",
    epilog="Exit codes: 0 done, 2 what you can mend (an option, a setting, data), 1 anything else; of drift also that "
    "it is time to train again, of verify that scores depend on the batching. How to get from a table to a champion "
    "stands in docs/ml-engineer.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


VersionOption = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]


@app.callback()
def _main(version: VersionOption = False) -> None:
    """Train PTEC models from warehouse tables and score every company every night."""


@app.command()
def extract(
    config: Annotated[Path | None, own_config("extract")] = None, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Take a training extract from a warehouse table, pinned to a version of it."""
    from jobs.extract import run, show

    run_command(lambda: run(config, set_ or []), as_json=json, show=show)


@app.command()
def train(
    config: Annotated[Path | None, own_config("train")] = None, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Train a model from an extract; an interrupted training goes on after its last epoch."""
    from jobs.train import run, show

    run_command(lambda: run(config, set_ or []), as_json=json, show=show)


@app.command()
def search(
    config: Annotated[Path | None, own_config("search")] = None, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Choose settings of a training on validation; a search that was killed goes on, more trials may be added."""
    from jobs.search import run

    run_command(lambda: run(config, set_ or []), as_json=json, show=show_pairs)


@app.command()
def benchmark(
    config: Annotated[Path | None, own_config("benchmark")] = None, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Compare methods on one extract; what ran before is kept, so that a long table is built in pieces."""
    from jobs.benchmark import run, show

    run_command(lambda: run(config, set_ or []), as_json=json, show=show)


@app.command()
def evaluate(
    model_id: Annotated[str, typer.Argument(help="A registered model_id or its beginning.")],
    config: Annotated[Path | None, own_config("evaluate")] = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Compare a model with the champion on held-out rows, and say what the gate of 'promote' says of it."""
    from jobs.evaluate import run, show

    run_command(lambda: run(model_id, config, set_ or []), as_json=json, show=show)


@app.command()
def register(
    artifact: Annotated[Path, typer.Argument(help="Folder that 'ptec train' wrote.")],
    name: Annotated[str | None, typer.Option(help="A name for people; default: the folder's.")] = None,
    config: SiteOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Copy an artifact to the warehouse and enter it in the models table."""
    from jobs.promote import run_register

    run_command(lambda: run_register(artifact, name, config, set_ or []), as_json=json, show=show_pairs)


@app.command()
def promote(
    model_id: Annotated[str, typer.Argument(help="A registered model_id or its beginning.")],
    alias: Annotated[str, typer.Option(help="The pointer that moves.")] = "champion",
    why: Annotated[str, typer.Option(help="A reason, kept with the move.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Pass over the gate; needs --why.")] = False,
    config: SiteOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Let an alias point to a model; refused unless it passes the gate, and artifact and backbone load."""
    from jobs.promote import run_promote

    run_command(lambda: run_promote(model_id, alias, why, config, set_ or [], force), as_json=json, show=show_pairs)


@app.command()
def rollback(
    alias: Annotated[str, typer.Option(help="The pointer that moves back.")] = "champion",
    why: Annotated[str, typer.Option(help="A reason, kept with the move.")] = "",
    config: SiteOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Let an alias point to its previous model again; each further call goes back one more."""
    from jobs.promote import run_rollback

    run_command(lambda: run_rollback(alias, why, config, set_ or []), as_json=json, show=show_pairs)


@app.command()
def models(config: SiteOption = None, set_: SetOption = None, json: JsonOption = False) -> None:
    """List registered models and the aliases that point to them."""
    from jobs.promote import run_models

    run_command(
        lambda: run_models(config, set_ or []),
        as_json=json,
        show=lambda result: show_rows(result["models"], "no model is registered"),
    )


app.add_typer(cli_nights.app)


@app.command()
def recalibrate(
    config: Annotated[Path | None, own_config("recalibrate")] = None, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Give a registered model other calibration or thresholds, from stored logits; the model is not run."""
    from jobs.recalibrate import run

    run_command(lambda: run(config, set_ or []), as_json=json, show=show_pairs)


@app.command()
def sql(
    query: Annotated[
        str, typer.Argument(help="One SQL statement, which may also write; ptec_score(text) may be used.")
    ],
    limit: Annotated[int, typer.Option(min=1, max=2**31 - 2, help="Most rows printed.")] = 100,
    config: SiteOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Run SQL on the warehouse and print a table."""
    from jobs.sql import run

    run_command(
        lambda: run(query, limit, config, set_ or []),
        as_json=json,
        show=lambda result: show_rows(result["rows"], "done, no rows"),
    )


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option(help="Folder for everything that the demo makes; an earlier demo's is emptied first.")
    ] = Path("ptec-demo"),
    json: JsonOption = False,
) -> None:
    """Go from a table to screens on shipped fictional companies: extract, train, promote, score two nights, query."""
    from jobs.demo.run import run, show

    run_command(lambda: run(folder), as_json=json, show=show)


def main() -> None:
    """Entry point of the installed command."""
    try:
        app()
    except SystemExit as end:
        if end.code:  # where a scheduler calls this function itself, Databricks for one, any exit is a failure
            raise
