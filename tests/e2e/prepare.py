"""Make a warehouse with a tiny champion and a table of companies.

``python -m tests.e2e.prepare FOLDER N_COMPANIES [N_MODELS [N_BEFORE]]``: models after the first are registered and no
more. With N_BEFORE so many companies have had a night, and the table holds what ``changed`` makes of them since.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from ptec_udf.config import ScoreConfig, WarehouseConfig
from ptec_udf.config_file import load_config
from ptec_udf.nightly.run import score
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse
from tests.quick import QUICK
from tests.spark.nights import Site, companies
from tests.tiny import LABELS


def prepare(folder: Path, n_companies: int, n_models: int = 1, n_before: int = 0) -> None:
    """Write table, model and score.yaml into ``folder``, and let ``n_before`` companies have a night."""
    where = {"folder": str(folder / "warehouse")}
    warehouse = Warehouse(build_session(WarehouseConfig(**where, spark=QUICK), "prepare"))
    warehouse.ensure()
    site = Site(warehouse, folder / "models")
    site.write(companies(n_before or n_companies))
    site.champion()
    for seed in range(1, n_models):
        site.model(seed)
    settings = {"warehouse": where, "source": {"table": site.table, "key": "key"}, "slice_texts": 100}
    (folder / "score.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    if n_before:
        score(warehouse.spark, load_config(ScoreConfig, folder / "score.yaml"))
        site.write(changed(companies(n_companies), n_before))
        # Of two companies whose texts stay, that a label is given or left out by mistake.
        scores, said = site.scores(), (("c0001", LABELS[0]), ("c0002", LABELS[1]))
        site.correct(*((key, label, label not in scores[key]["labels"]) for key, label in said))


def changed(rows: list[tuple[Any, ...]], n_before: int) -> list[tuple[Any, ...]]:
    """Give every third of the first companies another text, let every tenth go, and one come that is as another."""
    kept = [row for at, row in enumerate(rows) if at >= n_before or at % 10 != 5]
    texts = {row[0]: f"other {row[2]}" for row in rows[:n_before:3]}
    return [*((key, name, texts.get(key, about)) for key, name, about in kept), ("alike", *rows[1][1:])]


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), *map(int, sys.argv[2:]))
