"""Commands about data: the site file, the training extract and SQL."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ptec_jobs.command import command

if TYPE_CHECKING:
    from ptec_jobs.site import Site

PANEL = "Data"
Engine = Literal["auto", "duckdb", "spark"]


@command(PANEL)
def init(
    full: Annotated[bool, typer.Option("--full", help="Write all settings, each with its default.")] = False,
    out: Annotated[Path, typer.Option(help="The file to write; an existing one is kept.")] = Path("ptec.yaml"),
) -> dict[str, Any]:
    """Write a commented site file with the settings that most sites change."""
    from ptec_udf.errors import ConfigError

    shipped = files("ptec_conf") / ("ptec.yaml" if full else "init.yaml")
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(shipped.read_text(encoding="utf-8"))
    except FileExistsError:
        raise ConfigError(f"--out {str(out)!r} exists and is kept; edit it, or choose another file") from None
    except OSError as error:
        raise ConfigError(f"--out {str(out)!r} cannot be written: {error.strerror}") from None
    return {"config": str(out), "next": "set source.table and source.key in it, then run ptec extract and ptec train"}


@command(PANEL)
def extract(
    site: Site,
    out: Annotated[Path | None, typer.Option(help="Folder of the extract (extract.out).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier extract.")] = False,
    source_version: Annotated[int | None, typer.Option(min=0, help="Delta version of the source table.")] = None,
) -> dict[str, Any]:
    """Write a training extract of a warehouse table, pinned to a version of it."""
    settings = {"extract.out": out, "extract.overwrite": overwrite, "extract.source.version": source_version}
    config = site.override(settings).section("extract")
    from ptec_training.data.extract import extract as write_extract
    from ptec_training.data.folder import check_out
    from ptec_udf.warehouse.source import pin

    check_out(config.out, config.overwrite)  # before Spark starts
    spark = site.session("ptec extract")
    return {"extract": config.out, **write_extract(spark, config, pin(spark, config.source))}


@command(PANEL)
def sql(
    site: Site,
    context: typer.Context,
    query: Annotated[str | None, typer.Argument(help="One SQL statement; default: a shell, or standard input.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=2**31 - 2, help="Rows at most; printed: 100.")] = None,
    engine: Annotated[Engine, typer.Option(help="auto: DuckDB where it can answer, in a second; else Spark.")] = "auto",
    csv: Annotated[bool, typer.Option("--csv", help="Print all rows as CSV.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write all rows to a file: .xlsx, .csv or .parquet.")] = None,
) -> dict[str, Any]:
    """Run SQL on the warehouse, in Spark's dialect: one statement, or a shell."""
    from ptec_jobs.sql.answer import Output, run
    from ptec_udf.errors import ConfigError

    if csv and context.params["json"]:
        raise ConfigError("--csv and --json exclude each other")
    output = Output(out, csv, limit)
    output.check()
    if query is not None:
        return run(site, query, engine, output)
    if out is not None:
        raise ConfigError("--out is for one statement, which was not given")
    from ptec_jobs.sql.shell import run_shell

    run_shell(site, engine, output, as_json=context.params["json"])
    return {}
