"""Commands of ``ptec`` for the nightly job and what comes before and after it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.command import JsonOption, SetOption, SiteOption, own_config, run_command, show_pairs

app = typer.Typer()


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
    r"""Score what is new or changed in a source table: the nightly job.

    Challengers score in the same pass with --set 'shadows=\[challenger]'. Exit code 0 also for a night with nothing to
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
    keys: Annotated[
        int | None, typer.Option(min=1, help="Most keys that are shown of one error: 10, if not given.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List companies whose score failed, by their error; those of a night that stopped before it merged, too."""
    from jobs.errors import run, show
    from jobs.score import run as run_score

    if rescore and keys is not None:
        raise typer.BadParameter("--keys is for the list of errors, which --rescore does not print")
    if rescore:
        again = [*(set_ or []), "retry_errors=true"]
        run_command(lambda: run_score(config, again), as_json=json, show=show_pairs)
    else:
        run_command(lambda: run(config, set_ or [], keys or 10), as_json=json, show=show)


@app.command()
def drift(
    alias: Annotated[str, typer.Option(help="The pointer whose nights are looked at.")] = "champion",
    nights: Annotated[int, typer.Option(min=1, max=2**31 - 1, help="Most nights that are shown.")] = 7,
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
    """Remove rows and files that are too old, and join small files; --set dry_run=true only counts the rows."""
    from jobs.housekeeping import run, show

    run_command(lambda: run(config, set_ or []), as_json=json, show=show)
