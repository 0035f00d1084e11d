"""A search that is killed and run again chooses what an undisturbed one chooses."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.processes import kill_when, ptec, result_of
from tests.tiny import tiny_backbone, tiny_extract

pytestmark = pytest.mark.long


def n_complete(folder: Path) -> int:
    """Number of complete trials in a study."""
    if not (study := next(iter(folder.glob("*.db")), None)):
        return 0
    try:
        with sqlite3.connect(f"file:{study}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0])
    except sqlite3.Error:  # it is being created
        return 0


class TestSearch:
    def test_resumes_after_a_kill(self, tmp_path: Path) -> None:
        tiny_extract(tmp_path / "extract", n=120)
        recipe = {"backbone": tiny_backbone(tmp_path, "bert"), "max_tokens": 32, "dtype": "float32"}
        search: dict[str, Any] = {
            "extract": "extract",
            "recipe": recipe | {"prompt": {"n_tokens": 4}, "stopping": {"epochs": 4, "patience": 4}},
            "space": {"optimiser.head_lr": {"low": 1.0e-4, "high": 0.1, "log": True}},
            "trials": 4,
        }
        (tmp_path / "ptec.yaml").write_text(yaml.safe_dump({"search": search}), encoding="utf-8")
        killed, whole = (("search", "--json", "--set", f"search.out={out}") for out in ("killed", "whole"))
        kill_when(killed, lambda: n_complete(tmp_path / "killed") > 0, tmp_path)
        assert n_complete(tmp_path / "killed") < 4
        results = [result_of(ptec(*command, cwd=tmp_path)) for command in (killed, whole)]
        assert results[0] | {"config": ""} == results[1] | {"config": ""}
