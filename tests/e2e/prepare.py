"""Make a warehouse with a tiny champion and a table of companies: ``python -m tests.e2e.prepare FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from ptec_udf.config import WarehouseConfig
from ptec_udf.warehouse.session import build_session
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.nights import Site, companies


def prepare(folder: Path, n_companies: int) -> None:
    """Write table, model and score.yaml into ``folder``."""
    where = {"folder": str(folder / "warehouse")}
    warehouse = Warehouse(build_session(WarehouseConfig(**where), "prepare"))
    warehouse.ensure()
    site = Site(warehouse, folder / "models")
    site.write(companies(n_companies))
    site.champion()
    score = {"warehouse": where, "source": {"table": site.table, "key": "key"}, "slice_texts": 100}
    (folder / "score.yaml").write_text(yaml.safe_dump(score), encoding="utf-8")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), int(sys.argv[2]))
