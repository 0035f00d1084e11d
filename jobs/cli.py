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
from ptec_udf import __version__


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
    folder: Annotated[Path, typer.Option(help="Folder of the demo; an earlier demo in it is removed.")] = Path(
        "ptec-demo"
    ),
) -> dict[str, Any]:
    """Go from a table of fictional companies to a screen: extract, train, promote, score three times, query."""
    from ptec_jobs.demo.run import run

    return run(folder)


def main(*arguments: str) -> None:
    """Run the command line; a script of one step passes the name of its command."""
    try:
        app([*arguments, *sys.argv[1:]])
    except SystemExit as end:
        if end.code:  # a scheduler that calls this function treats any SystemExit as a failure
            raise


if __name__ == "__main__":
    main()
