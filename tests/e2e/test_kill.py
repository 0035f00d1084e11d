"""kill -9 of the whole night; after a rerun the tables are those of an undisturbed one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import ROOT, TIMEOUT_S, kill_when, n_commits, ptec, result_of, table_rows

SCORE = ("score", "--config", "score.yaml", "--json")
TIMES = ("scored_at", "changed_at", "started", "ended", "rows_per_second")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "tests.e2e.prepare", str(folder), "600"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=TIMEOUT_S, capture_output=True)
    # The catalog holds absolute paths, so a scenario starts from a copy that is put back into the same place.
    shutil.copytree(folder / "warehouse", folder / "before")
    return folder


@pytest.fixture
def restored(site: Path) -> Iterator[Path]:
    yield site
    shutil.rmtree(site / "warehouse")
    shutil.copytree(site / "before", site / "warehouse")


@pytest.fixture(scope="module")
def undisturbed(site: Path) -> dict[str, list[dict]]:
    result_of(ptec(*SCORE, cwd=site))
    tables = _tables(site)
    shutil.rmtree(site / "warehouse")
    shutil.copytree(site / "before", site / "warehouse")
    return tables


def test_killed_while_scoring(restored: Path, undisturbed: dict[str, list[dict]]) -> None:
    staging = _table(restored, "score_staging")
    kill_when(SCORE, lambda: n_commits(staging) >= 3, cwd=restored)
    already_staged = len(table_rows(staging, ()))
    assert already_staged > 0
    result = result_of(ptec(*SCORE, cwd=restored))
    assert result["counts"] == {"ok": 610}
    assert result["reused"] >= already_staged
    assert _tables(restored) == undisturbed


def test_killed_between_staging_and_merge(restored: Path, undisturbed: dict[str, list[dict]]) -> None:
    changes = _table(restored, "score_changes")
    kill_when(SCORE, lambda: n_commits(changes) >= 2, cwd=restored)
    assert table_rows(_table(restored, "scores"), ()) == []
    result = result_of(ptec(*SCORE, cwd=restored))
    assert result["rows_per_second"] is None  # nothing was scored again
    assert _tables(restored) == undisturbed


def _table(site: Path, name: str) -> Path:
    return site / "warehouse" / "tables" / "ptec.db" / name


def _tables(site: Path) -> dict[str, list[dict]]:
    """What an undisturbed night and a rerun must agree in, times aside."""
    tables = {name: table_rows(_table(site, name), TIMES) for name in ("scores", "score_changes")}
    runs = table_rows(_table(site, "runs"), TIMES)
    tables["runs"] = [{name: run[name] for name in ("run_id", "outcome", "counts", "model_id")} for run in runs]
    return tables
