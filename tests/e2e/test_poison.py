"""Ten thousand hostile rows and a text that kills its worker: the run succeeds and names the text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

from ptec_udf.engine.scorer import WORKER_DIED
from tests.faulty import DEADLY, python_path_with_fault
from tests.hostile import hostile_rows
from tests.processes import ROOT, TIMEOUT_S, ptec, result_of, table_rows

pytestmark = pytest.mark.long

N_ROWS = 10_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "tests.prepare", str(folder), "10"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=TIMEOUT_S, capture_output=True)
    rows = [*hostile_rows(N_ROWS - 1), ("poison", "a name", f"solar {DEADLY} power")]
    names = ("key", "name", "about")
    columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    deltalake.write_deltalake(folder / "hostile", pa.table(columns))
    return folder


def test_run_names_the_text_that_kills_its_worker(site: Path) -> None:
    of_hostile = ("--config", "ptec.yaml", "--set", "source={path: hostile}", "--json")
    done = ptec("score", *of_hostile, cwd=site, python_path=python_path_with_fault(site, "plant_death"))
    result = result_of(done)
    rows = table_rows(site / "warehouse" / "ptec" / "scores", ())
    failed = [row for row in rows if row["status"] == "error"]
    assert (result["outcome"], len(rows), len({row["key"] for row in rows})) == ("done", N_ROWS, N_ROWS)
    assert {row["status"] for row in rows} == {"ok", "truncated", "empty", "error"}
    assert [(row["key"], row["error"]) for row in failed] == [("poison", WORKER_DIED)]
    assert f"1 without a score: {WORKER_DIED}" in done.stderr
    assert DEADLY not in done.stderr
    listed = result_of(ptec("errors", *of_hostile, cwd=site))
    assert listed["errors"] == [{"where": "scores", "error": WORKER_DIED, "companies": 1, "keys": ["poison"]}]
