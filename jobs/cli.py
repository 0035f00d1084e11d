"""The command line ``ptec``: one command per step, each a few lines around the function that does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.command import JsonOption, SetOption, SiteOption, own_config, run_command, show_pairs, show_rows
from ptec_udf import __version__

app = typer.Typer(
    name="ptec",
    help="Train PTEC models from warehouse tables and score every company every night.",
    epilog="Exit codes: 0 done, 2 what you can mend (an option, a setting, data), 1 anything else. The way from a "
    "table to a champion stands in docs/ml-engineer.md.",
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
    """Choose settings of a training on tune; a search that was killed goes on, more trials may be added."""
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


@app.command()
def score(
    config: Annotated[Path | None, own_config("score")] = None,
    set_: SetOption = None,
    accept_new_source: Annotated[
        bool,
        typer.Option(
            "--accept-new-source", help="Once: earlier nights read another source; companies that it lacks are removed."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Score what is new or changed in a source table: the nightly job.

    Challengers score in the same pass with --set 'shadows=[challenger]'. Exit code 0 also for a night with nothing to
    do, or one that is older than the scores that stand: 'outcome' says which.
    """
    from jobs.score import run

    overrides = [*(set_ or []), *(["source.accept_new=true"] if accept_new_source else [])]
    run_command(lambda: run(config, overrides), as_json=json, show=show_pairs)


@app.command()
def errors(
    config: Annotated[Path | None, own_config("score")] = None,
    set_: SetOption = None,
    rescore: Annotated[bool, typer.Option("--rescore", help="Score them again, as a night with retry_errors.")] = False,
    keys: Annotated[int, typer.Option(min=1, help="Most keys that are shown of one error.")] = 10,
    json: JsonOption = False,
) -> None:
    """List companies whose score failed, by their error; those of a night that stopped before it merged, too."""
    from jobs.errors import run, show
    from jobs.score import run as run_score

    if rescore:
        again = [*(set_ or []), "retry_errors=true"]
        run_command(lambda: run_score(config, again), as_json=json, show=show_pairs)
    else:
        run_command(lambda: run(config, set_ or [], keys), as_json=json, show=show)


@app.command()
def drift(
    alias: Annotated[str, typer.Option(help="The pointer whose nights are looked at.")] = "champion",
    nights: Annotated[int, typer.Option(min=1, help="Most nights that are shown.")] = 7,
    config: SiteOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Show what drifted in the last nights. Exit code 1: it is time to train again.

    Whoever acts on it reads "retrain" of --json, since other failures print no result. Limits are those of the nights:
    section drift of conf/score.yaml.
    """
    from jobs.drift import fault_of, run, show

    run_command(lambda: run(alias, nights, config, set_ or []), as_json=json, show=show, fault_of=fault_of)


@app.command()
def estimate(
    config: Annotated[Path | None, own_config("score")] = None, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Say how long the next night will take and what memory it needs, from counts and some seconds of scoring.

    --set estimate.seconds=N measures for another time; Spark's start and the first texts come on top.
    """
    from jobs.estimate import run, show

    run_command(lambda: run(config, set_ or []), as_json=json, show=show)


@app.command()
def verify(
    config: Annotated[Path | None, own_config("score")] = None, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Show on a sample of the source that scores do not depend on the batching; nothing is written to any table.

    --set verify.rows=N draws another number of texts. Exit code 1: scores depend on it, past the tolerance,
    or they could not be compared; standard error says which.
    """
    from jobs.verify import fault_of, run, show

    run_command(lambda: run(config, set_ or []), as_json=json, show=show, fault_of=fault_of)


@app.command()
def recalibrate(
    config: Annotated[Path | None, own_config("recalibrate")] = None, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Give a registered model other calibration or thresholds, from stored logits; the model is not run."""
    from jobs.recalibrate import run

    run_command(lambda: run(config, set_ or []), as_json=json, show=show_pairs)


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    run: Annotated[str | None, typer.Option(help="A run_id or its beginning; default: the last that is done.")] = None,
    model: Annotated[str | None, typer.Option(help="A model_id or its beginning, whose last run it is.")] = None,
    alias: Annotated[str, typer.Option(help="The pointer whose last run it is, where nothing else says.")] = "champion",
    config: SiteOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Write what a night did to one HTML file: entries and exits, drift, quality, errors, cost. It needs no network."""
    from jobs.report.run import run as write

    run_command(
        lambda: write(out, config, set_ or [], run_id=run, model_id=model, alias=alias), as_json=json, show=show_pairs
    )


@app.command()
def housekeeping(
    config: Annotated[Path | None, own_config("housekeeping")] = None, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Remove rows and files that are too old, and join small files; --set dry_run=true only says what would go."""
    from jobs.housekeeping import run, show

    run_command(lambda: run(config, set_ or []), as_json=json, show=show)


@app.command()
def sql(
    query: Annotated[
        str, typer.Argument(help="One SQL statement, which may also write; ptec_score(text) may be used.")
    ],
    limit: Annotated[int, typer.Option(min=1, help="Most rows printed.")] = 100,
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
    app()
