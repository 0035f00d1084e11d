"""Drift of runs: figures equal the scores, quiet runs are quiet, and a shift signals on its second run."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import functions as F

from ptec_udf.monitor.distribution import count_probabilities
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.support import Site
from tests.tiny import LABELS

N_FIRST, N_NEW = 300, 120
TEXT = "we are a company for software and data that works with industry and from the city in this country"


@pytest.fixture
def site(warehouse: Warehouse, tmp_path: Path) -> Site:
    made = Site(warehouse, tmp_path, ["drift.measure=true"])
    made.champion()
    return made


class Growing:
    """A source that gets new companies before each run."""

    def __init__(self, site: Site) -> None:
        self.site, self.draw = site, random.Random(5)
        self.rows: list[tuple[Any, ...]] = []

    def grow(self, n_new: int, shorter: int = 1, *overrides: str) -> dict[str, Any]:
        self.rows += [self.company(len(self.rows) + at, shorter) for at in range(n_new)]
        self.site.write(self.rows)
        return self.site.run(*overrides)

    def company(self, at: int, shorter: int) -> tuple[str, str, str]:
        text = " ".join(self.draw.choices(TEXT.split(), k=self.draw.randint(20, 40) // shorter))
        return f"k{at}", f"company {at}", text


def drift_of(site: Site, run: dict[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    rows = site.warehouse.read("drift").where(F.col("run_id") == run["run_id"]).collect()
    return {(row["population"], row["figure"], row["label"]): row.asDict() for row in rows}


class TestMeasuredFigures:
    def test_equal_the_scores(self, site: Site) -> None:
        run = Growing(site).grow(N_FIRST)
        found = drift_of(site, run)
        scores = list(site.scores().values())
        assert {key[0] for key in found} == {"all"}  # all are fresh
        values = np.array([row["probabilities"] for row in scores], np.float32)
        counts = count_probabilities(values)
        for at, label in enumerate(LABELS):
            row = found["all", "probability", label]
            assert row["counts"] == counts[at]
            assert row["mean"] == pytest.approx(values[:, at].mean())
            assert row["share"] == pytest.approx(np.mean([label in one["labels"] for one in scores]))
            assert (row["psi_runs"], row["violated"], row["companies"]) == (None, [], N_FIRST)
        assert found["all", "mix", None]["mean"] == pytest.approx(np.mean([len(row["labels"]) for row in scores]))
        tokens = [row["n_tokens"] + row["n_truncated"] for row in scores]
        assert found["all", "tokens", None]["mean"] == pytest.approx(np.mean(tokens))
        assert found["all", "status", None]["counts"] == Counter(row["status"] for row in scores)
        assert (run["drifted"], run["retrain"]) == ([], False)

    @pytest.mark.long
    def test_are_fresh_for_new_texts_alone(self, site: Site) -> None:
        growing = Growing(site)
        growing.grow(N_FIRST)
        scores = site.warehouse.name("scores")
        no_score = "status = 'error', logits = NULL, probabilities = NULL, labels = CAST(array() AS array<string>)"
        site.spark.sql(f"UPDATE {scores} SET {no_score} WHERE key = 'k0'")
        site.correct(*[(f"k{at}", LABELS[0], at % 2 == 0) for at in range(1, 41)])
        growing.rows += [(f"none{at}", None, None) for at in range(5)]
        run = growing.grow(25, 1, "run.retry_errors=true")
        assert sum(run["counts"].values()) == 1 + 40 + 5 + 25
        found = drift_of(site, run)
        assert found["fresh", "status", None]["counts"] == {"empty": 5, "truncated": 25}
        assert found["fresh", "tokens", None]["companies"] == 25
        summary = site.spark.table(site.warehouse.name("drift_summary")).where(F.col("run_id") == run["run_id"])
        assert {row["population"]: row["companies"] for row in summary.collect()} == {"all": N_FIRST + 30, "fresh": 30}


@pytest.mark.long
class TestSignal:
    def test_comes_on_the_second_run_with_halved_texts(self, site: Site) -> None:
        growing = Growing(site)
        quiet = [growing.grow(n) for n in (N_FIRST, N_NEW, N_NEW)]
        assert [(run["drifted"], run["retrain"]) for run in quiet] == [([], False)] * 3
        shifted = [growing.grow(N_NEW, 2) for _ in range(2)]
        assert [run["retrain"] for run in shifted] == [False, True]
        for run in shifted:
            assert any(line.startswith("fresh tokens: PSI ") for line in run["drifted"])
        stored = {row["run_id"]: row for row in site.warehouse.read("runs").collect()}
        assert stored[shifted[-1]["run_id"]]["drifted"] == shifted[-1]["drifted"]
        site.correct(("k0", LABELS[0], True))
        assert site.run()["retrain"] is True  # the same source version counts once
