"""Write the report of a run: ``ptec report``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jobs.report.collect import collect, find_run
from jobs.site import Site
from ptec_udf.errors import ConfigError
from ptec_udf.warehouse.embedded import make_folder


def run(
    site: Site,
    out: Path,
    *,
    run_id: str | None,
    model_id: str | None,
    alias: str,
) -> dict[str, Any]:
    """Gather, write, say where it is.

    Raises:
        ConfigError: if the file cannot be written, or a run and a model are named.
        RegistryError: if there is no such run or model.
    """
    if run_id is not None and model_id is not None:
        raise ConfigError("at most one of --run and --model may be given: a run is of one model")
    from jobs.report.render import render  # needs the extra report

    if not out.name or (out.exists() and not out.is_file()):
        raise ConfigError(f"--out must be a file, was {'the folder ' if out.is_dir() else ''}{str(out)!r}")
    out = out.resolve()  # what a link points to is replaced, and not the link
    make_folder(out.parent, "the folder of --out")  # before anything is asked
    warehouse = site.open_warehouse("ptec report")
    row = find_run(warehouse, run_id=run_id, model_id=model_id, alias=alias)
    page = render(collect(warehouse, row))
    try:
        beside = out.with_name(f".{out.name}.part")  # a reader never sees half a page
        beside.write_text(page, encoding="utf-8")
        os.replace(beside, out)
    except OSError as error:
        raise ConfigError(f"--out must be a file that can be written, was: {str(out)!r} ({error.strerror})") from None
    return {
        "report": str(out),
        "run_id": row["run_id"],
        "model_id": row["model_id"],
        "bytes": len(page.encode()),
    }
