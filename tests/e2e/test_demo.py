"""The README's first command goes from a table to a screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import ptec, result_of


@pytest.mark.long
def test_demo_ends_with_a_screen_and_reasons(tmp_path: Path) -> None:
    found = result_of(ptec("demo", "--folder", "demo", "--json", cwd=tmp_path))
    assert [run["outcome"] for run in found["runs"]] == ["done", "done", "nothing_to_do"]
    assert found["screen"]
    assert {row["reason"] for row in found["why_changed"]} >= {"text", "removed"}
    query = "SELECT * FROM label_scores WHERE key = 'C0001'"
    answer = result_of(ptec("sql", query, "--json", cwd=tmp_path / "demo"))
    assert len(answer["rows"]) == found["labels"]
