"""Make a warehouse with a tiny champion and a table of companies.

``python -m tests.e2e.prepare FOLDER N_COMPANIES [N_MODELS]``: models after the first are registered and no more.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from ptec_udf.config import WarehouseConfig
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.nights import Site, companies


def prepare(folder: Path, n_companies: int, n_models: int = 1) -> None:
    """Write table, model and score.yaml into ``folder``."""
    where = {"folder": str(folder / "warehouse")}
    warehouse = Warehouse(build_session(WarehouseConfig(**where), "prepare"))
    warehouse.ensure()
    site = Site(warehouse, folder / "models")
    site.write(companies(n_companies))
    site.champion()
    for seed in range(1, n_models):
        site.model(seed)
    score = {"warehouse": where, "source": {"table": site.table, "key": "key"}, "slice_texts": 100}
    (folder / "score.yaml").write_text(yaml.safe_dump(score), encoding="utf-8")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), *map(int, sys.argv[2:]))
