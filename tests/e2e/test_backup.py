"""An embedded warehouse that was lost comes back from a copy, and the next night makes up for what the copy lacks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import ROOT, TIMEOUT_S, ptec, result_of, table_rows

pytestmark = pytest.mark.long

NIGHT = ("score", "--config", "score.yaml", "--json")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty companies that had a night, and what has become of them since."""
    folder = tmp_path_factory.mktemp("backup") / "site"
    command = [sys.executable, "-m", "tests.e2e.prepare", str(folder), "40", "1", "30"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=TIMEOUT_S, capture_output=True)
    shutil.copytree(folder / "warehouse", folder / "copy")
    return folder


@pytest.fixture(scope="module")
def undisturbed(site: Path) -> list[dict[str, Any]]:
    assert result_of(ptec(*NIGHT, cwd=site))["outcome"] == "done"
    return scores(site)


def scores(site: Path) -> list[dict[str, Any]]:
    return table_rows(site / "warehouse" / "tables" / "ptec.db" / "scores", ("scored_at",))


def test_a_copy_that_is_put_back_goes_on_where_it_was(site: Path, undisturbed: list[dict[str, Any]]) -> None:
    shutil.rmtree(site / "warehouse")
    shutil.copytree(site / "copy", site / "warehouse")
    assert scores(site) != undisturbed
    assert result_of(ptec(*NIGHT, cwd=site))["outcome"] == "done"
    assert scores(site) == undisturbed
