"""Other readers of our tables return what Spark returns: the code of docs/analyst/bi.md runs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.documents.pages import blocks
from tests.processes import ROOT, TIMEOUT_S, environment, ptec, result_of

pytestmark = pytest.mark.long

PAGE = ROOT / "docs" / "analyst" / "bi.md"
COMPANIES, TOKENS = "count(*)", "sum(n_tokens)"


def block(note: str, language: str) -> str:
    (found,) = [one.text for one in blocks(language) if one.page == PAGE and one.note == note]
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside") / "site"
    command = [sys.executable, "-m", "tests.prepare", str(folder), "80"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=TIMEOUT_S, capture_output=True)
    assert result_of(ptec("score", "--config", "ptec.yaml", "--json", cwd=folder))["outcome"] == "done"
    return folder


@pytest.fixture(scope="module")
def expected(site: Path) -> dict[str, Any]:
    """Counts by Spark."""
    query = f"SELECT {COMPANIES} AS companies, {TOKENS} AS tokens FROM current_scores"
    (row,) = result_of(ptec("sql", query, "--engine", "spark", "--config", "ptec.yaml", "--json", cwd=site))["rows"]
    assert row["companies"] == 90
    return row


@pytest.fixture(scope="module")
def screens(site: Path) -> list[tuple[str, int, float]]:
    """By Spark, for each label its companies and threshold."""
    columns = "label, count(*) AS companies, min(threshold) AS threshold"
    query = f"SELECT {columns} FROM label_scores WHERE has_label GROUP BY label ORDER BY label"
    rows = result_of(ptec("sql", query, "--engine", "spark", "--config", "ptec.yaml", "--json", cwd=site))["rows"]
    assert len(rows) > 1
    return [tuple(row.values()) for row in rows]


def test_polars_agrees_with_spark(site: Path, expected: dict[str, Any], screens: list[tuple[str, int, float]]) -> None:
    code = block("files", "python")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=site, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    counted, joined = map(ast.literal_eval, done.stdout.splitlines())
    assert counted == [tuple(expected.values())]
    assert [(name, n, pytest.approx(threshold)) for name, n, threshold in joined] == screens
