"""The notebook runs from its first cell to its last one, and its site is what the demo's is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ptec_udf.warehouse.duck import connect
from tests.processes import ROOT, TIMEOUT_S, environment

pytestmark = pytest.mark.long


def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    programs = str(Path(sys.executable).parent)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", programs, prepend=":")
    notebook = nbformat.read(ROOT / "examples" / "tour.ipynb", as_version=4)
    NotebookClient(notebook, timeout=TIMEOUT_S, resources={"metadata": {"path": str(tmp_path)}}).execute()
    plots = [one for cell in notebook.cells for one in cell.get("outputs", ()) if "image/png" in one.get("data", {})]
    assert len(plots) == 3
    warehouse = connect(tmp_path / "tour" / "warehouse")
    assert warehouse.sql("SELECT count(*) FROM runs WHERE outcome = 'done'").fetchall() == [(2,)]
    assert {reason for (reason,) in warehouse.sql("SELECT DISTINCT reason FROM why_changed").fetchall()} >= {"text"}
    assert (tmp_path / "tour" / "report.html").exists()
