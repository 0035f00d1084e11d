"""The command line ``ptec``: one command per step, in three panels.

spark-submit --properties-file conf/spark-defaults.conf jobs/cli.py COMMAND --config ptec.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ptec_jobs import cli_data, cli_model, cli_nightly  # noqa: F401 (two only add their commands)
from ptec_jobs.command import app, command
from ptec_jobs.output import print_now
from ptec_udf import __version__
from ptec_udf.log import logger


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback(
    epilog="Exit codes: 0 done, also nothing to do; 2 user error (option, setting or data); 3 time to retrain (drift); "
    "1 anything else. Start with 'ptec init', or see it work with 'ptec demo'."
)
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train PTEC models from warehouse tables and score every company in a nightly run."""


@command(cli_data.PANEL)
def demo(
    context: typer.Context,
    folder: Annotated[Path, typer.Option(help="Folder of the demo; an earlier demo in it is removed.")] = Path(
        "ptec-demo"
    ),
    text: Annotated[str | None, typer.Option(help="Score this text with the demo's model.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also print the messages of each step.")] = False,
) -> dict[str, Any]:
    """Go from a table of fictional companies to a screen: train, score three times, correct, report."""
    from ptec_jobs.demo.run import run

    as_json = context.params["json"]
    result = run(folder, text, verbose=verbose, tell=logger.info if as_json else print_now)
    return result if as_json else {}


def main(*arguments: str) -> None:
    """Run the command line; a script of one step passes the name of its command."""
    try:
        app([*arguments, *sys.argv[1:]])
    except SystemExit as end:
        if end.code:  # a scheduler that calls this function treats any SystemExit as a failure
            raise


if __name__ == "__main__":
    main()
