"""Make a warehouse with a tiny champion and a table of companies, in a process of its own.

``python -m tests.prepare FOLDER N_COMPANIES [N_MODELS [N_BEFORE]]``: further models are registered only. With N_BEFORE,
this many companies are scored by a first run, and then the table gets the rows of ``changed``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from ptec_udf.config import ScoreConfig, WarehouseConfig
from ptec_udf.nightly.run import score
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse
from tests.quick import QUICK
from tests.site import load_config
from tests.spark.support import Site, SourceRow, companies
from tests.tiny import LABELS

CONFIG, ENGINE = "ptec.yaml", {"dtype": "float32"}


def prepare(folder: Path, n_companies: int, n_models: int = 1, n_before: int = 0) -> None:
    """Write table, models and site file into ``folder``; score ``n_before`` companies."""
    where = {"folder": str(folder / "warehouse")}
    warehouse = Warehouse(build_session(WarehouseConfig(**where, spark=QUICK), "prepare"))
    warehouse.ensure()
    site = Site(warehouse, folder / "models")
    site.write(companies(n_before or n_companies))
    site.champion()
    for seed in range(1, n_models):
        site.model(seed)
    settings = {"warehouse": where, "source": {"table": site.table, "key": "key"}, "engine": ENGINE}
    (folder / CONFIG).write_text(yaml.safe_dump(settings), encoding="utf-8")
    if n_before:
        score(warehouse.spark, load_config(ScoreConfig, folder / CONFIG))
        site.write(changed(companies(n_companies), n_before))
        labels = site.labels()  # corrections of two companies with the same texts as before
        site.correct(
            *((key, label, label not in labels[key]) for key, label in zip(("c0001", "c0002"), LABELS, strict=False))
        )


def changed(rows: list[SourceRow], n_before: int) -> list[SourceRow]:
    """Change the text of every third scored company, remove every tenth, and add a twin of another company."""
    kept = [row for at, row in enumerate(rows) if at >= n_before or at % 10 != 5]
    texts = {row[0]: f"other {row[2]}" for row in rows[:n_before:3]}
    return [*((key, name, texts.get(key, about)) for key, name, about in kept), ("alike", *rows[1][1:])]


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), *map(int, sys.argv[2:]))
