"""Nights of ``ptec score`` in a process of their own, on a fresh embedded warehouse: what two benchmarks measure.

The first night is that of a command that has just started: its Python workers load the model. Later ones of the same
process find it there, and a JVM that has compiled much of its code.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from jobs.cli_model import promote, register
from jobs.cli_nightly import score
from jobs.site import Site
from ptec_udf.config import WarehouseConfig
from ptec_udf.engine.result import OK, TRUNCATED
from ptec_udf.model.artifact import load_artifact
from ptec_udf.text.template import parse_template
from ptec_udf.warehouse.session import build_session

_TABLE = "ptec.companies"


@dataclass(frozen=True)
class Nights:
    """What is to be run.

    Attributes:
        artifact: folder of a model.
        versions: Parquet files with the columns key and text; each is a version of the source, and has its night.
        master: Spark master.
        engine: settings of that section.
    """

    artifact: str
    versions: Sequence[str]
    master: str
    engine: dict[str, Any]

    def run(self) -> list[dict[str, Any]]:
        """Run the nights in a process of their own.

        Returns:
            Of each: seconds of the whole ``score``, number of scored texts and of their tokens, seconds of scoring
            them, and rows that did not change.
        """
        command = [sys.executable, "-m", "benchmarks.nights", json.dumps(asdict(self))]
        nights: list[dict[str, Any]] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        return nights


def write_version(file: Path, texts: Sequence[str]) -> str:
    """Write a version of the source; equal places have equal keys in all of them. Return the file's name."""
    keys = [f"c{at:08d}" for at in range(len(texts))]
    pq.write_table(pa.table({"key": keys, "text": texts}), file)
    return str(file)


def texts_of(artifact: str, values: Sequence[str]) -> list[str]:
    """Return the texts that a night makes of a column's clean values."""
    template = parse_template(load_artifact(artifact).manifest.template)
    return [f"{template.segments[0].heading}{value}{template.tail}" for value in values]


def main(nights: Nights) -> list[dict[str, Any]]:
    """Register and promote the model, and run the nights here."""
    with tempfile.TemporaryDirectory() as folder:
        warehouse = {"folder": f"{folder}/warehouse", "master": nights.master}
        source = {"table": _TABLE, "key": "key", "columns": columns_of(nights.artifact)}
        config = Path(folder, "ptec.yaml")
        content = {"warehouse": warehouse, "source": source, "engine": nights.engine}
        config.write_text(yaml.safe_dump(content), encoding="utf-8")
        spark = build_session(WarehouseConfig.model_validate(warehouse))
        make_champion(Path(nights.artifact), config)
        found = []
        for version in nights.versions:
            spark.read.parquet(version).write.format("delta").mode("overwrite").saveAsTable(_TABLE)
            started = time.monotonic()
            run = score(Site(config))
            found.append({"seconds": time.monotonic() - started, **_scoring(run)})
        spark.stop()
    return found


def make_champion(artifact: Path, config: Path) -> None:
    """Register a model and promote it, in the warehouse of some settings."""
    model_id = register(Site(config), artifact, "measured")["model_id"]
    promote(Site(config), model_id, why="to be measured")


def columns_of(artifact: str) -> dict[str, str | None]:
    """Give the whole text to the template's first field; the others have no column and drop out."""
    first, *others = parse_template(load_artifact(artifact).manifest.template).fields
    return {first: "text", **dict.fromkeys(others)}


def _scoring(run: dict[str, Any]) -> dict[str, Any]:
    """Count what a night scored, and how long that took.

    Raises:
        RuntimeError: for a night that scored nothing.
    """
    if run["outcome"] != "done" or not run["rows_per_second"]:
        raise RuntimeError(f"a night that scores texts is wanted, its outcome was {run['outcome']}")
    scored = sum(run["counts"].get(status, 0) for status in (OK, TRUNCATED)) - run["reused"]
    of_run = {name: run[name] for name in ("tokens", "skipped")}
    return {"scored": scored, "seconds_scoring": scored / run["rows_per_second"], **of_run}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Nights(**json.loads(sys.argv[1])))))
