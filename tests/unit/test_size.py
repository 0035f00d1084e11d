"""``ptec estimate --rows``: numbers alone, against the two runs that were measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ptec_jobs.cli import app

RECORD = json.loads((Path(__file__).parents[2] / "docs/benchmarks/listed/results.json").read_text(encoding="utf-8"))
COMPANIES = RECORD["runs"][0]["counts"]["ok"] + RECORD["runs"][0]["counts"]["truncated"]


def estimate(*options: object) -> dict[str, float]:
    done = CliRunner().invoke(app, ["estimate", "--json", *map(str, options)])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("run", RECORD["runs"], ids=["first", "next night"])
def test_is_near_the_measured_runs(run: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # there is no site file
    texts = sum(run["counts"][name] for name in ("ok", "truncated")) - run["reused"]
    numbers = ("--rows", COMPANIES, "--texts", texts, "--mean-tokens", run["tokens"] / texts)
    found = estimate(*numbers, "--cores", RECORD["machine"]["cores"])
    assert found["seconds"] == pytest.approx(run["seconds"], rel=0.2)


def test_cost_is_of_core_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    numbers = ("--rows", 3_600_000, "--mean-tokens", 100, "--tokens-per-core-second", 10_000)
    small, large = (estimate(*numbers, "--cores", cores, "--price-per-core-hour", 0.05) for cores in (1, 10))
    assert small["scoring_seconds"] == pytest.approx(36_000)
    assert small["cost"] == pytest.approx(small["seconds"] / 3600 * 0.05)
    assert large["scoring_seconds"] == pytest.approx(3_600)
    assert "cost" not in estimate(*numbers)
