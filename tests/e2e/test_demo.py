"""The README's first command: a story of one screen, and nothing else on standard error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ptec, result_of

pytestmark = pytest.mark.long

MAX_LINES = 30


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shown")


@pytest.fixture(scope="module")
def shown(place: Path) -> Any:
    return ptec("demo", "--folder", "demo", cwd=place)


def test_story_fits_a_screen_and_has_every_part(shown: Any, place: Path) -> None:
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert len(lines) <= MAX_LINES
    assert [line[0] for line in lines if re.match(r"[a-g] [A-Z]", line)] == list("abcdefg")
    assert re.search(r"First run +254 companies scored in \d+ s", shown.stdout)
    assert re.search(r"Second run +\d companies scored in \d+ s; 247 unchanged", shown.stdout)
    assert re.search(r"Third run +nothing to do", shown.stdout)
    assert "its text changed" in shown.stdout
    assert "corrected by an analyst" in shown.stdout
    assert (place / "demo" / "report.html").exists()


def test_standard_error_is_empty(shown: Any) -> None:
    """Neither Spark's resolver nor the JVM, torch or a hub says anything."""
    assert shown.stderr == ""


def test_next_commands_run(shown: Any, place: Path) -> None:
    (query,) = re.findall(r'ptec sql "(.+)"', shown.stdout)
    assert result_of(ptec("sql", query, "--json", cwd=place / "demo"))["rows"]
    assert result_of(ptec("estimate", "--json", cwd=place / "demo"))["companies"] == 0
    (options,) = re.findall(r"ptec train (.+)", shown.stdout)
    assert result_of(ptec("train", *options.split(), "--json", cwd=place / "demo"))["metrics"]["dev"]["map"] > 0.8


def test_text_of_the_user_is_scored_by_the_model_that_is_there(shown: Any, place: Path) -> None:
    found = result_of(ptec("demo", "--folder", "demo", "--text", "We insure drones.", "--json", cwd=place))
    assert shown.returncode == 0
    assert max(found["probabilities"], key=found["probabilities"].get) == "Insurance"
