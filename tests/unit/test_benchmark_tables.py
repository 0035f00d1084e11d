"""Tables of methods in docs/benchmarks are of the configurations beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ptec_udf.config_file import load_config
from training.benchmark.config import BenchmarkConfig

SHOWN = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
TABLES = sorted(SHOWN.glob("*/dev/results.json"))


def test_there_are_tables_of_methods():
    assert len(TABLES) >= 4


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.parts[-3])
def test_tables_that_are_shown_are_of_the_settings_that_are_shown(table):
    name = table.parts[-3]
    config = load_config(BenchmarkConfig, SHOWN / f"{name.removesuffix('_tags')}.yaml", [])
    shown = {name: method.model_dump(mode="json", exclude_unset=True) for name, method in config.methods.items()}
    settings = json.loads(table.read_text("utf-8"))["settings"]
    assert settings == {name: shown[name] for name in settings}
