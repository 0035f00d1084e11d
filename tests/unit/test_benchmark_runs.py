"""Runs of a benchmark: how they are kept, and what several of them come to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.benchmark.compare import Judge, compare
from training.benchmark.results import Facts, Results, Run
from training.calibrate.calibrate import Calibration
from training.calibrate.decide import Decisions

TARGETS = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=np.float32)


def _run(name: str, seed: int, logits: np.ndarray, *, decides: bool = True) -> Run:
    decisions = Decisions(Calibration(np.ones(2), np.zeros(2)), 0.0, np.zeros(2)) if decides else None
    return Run(Facts(name, seed, "x", False, 1.0, 1.0), np.asarray(logits, np.float32), decisions)


def test_figures_are_means_over_seeds():
    right, wrong = 4 * TARGETS - 2, 2 - 4 * TARGETS
    judge = Judge(["a", "b"], TARGETS, np.repeat(TARGETS, 60, axis=0), resamples=100)
    found = compare([_run("mixed", 1, right), _run("mixed", 2, wrong), _run("right", 1, right)], judge, "right")
    mixed = found["methods"]["mixed"]
    assert (mixed["macro_f1"], mixed["spread"]["macro_f1"]) == (0.5, 0.5)
    assert mixed["f1_by_frequency"] == {"at least 100": 0.5, "under 100": None, "at least 50": 0.5, "under 50": None}
    assert found["methods"]["right"]["macro_f1"] == 1.0
    assert found["methods"]["right"]["interval"]["map"] == {"low": 1.0, "high": 1.0}
    assert mixed["interval"]["macro_f1"] == {"low": 0.5, "high": 0.5}  # one is all right where the other is all wrong
    assert set(found["methods"]["right"]["spread"].values()) == {None}
    assert found["differences"]["mixed"]["macro_f1"]["difference"] == 0.5
    assert found["differences"]["mixed"]["macro_f1"]["low"] > 0


def test_decisions_alone_have_no_figures_of_scores():
    judge = Judge(["a", "b"], TARGETS, TARGETS, resamples=100)
    found = compare([_run("a", 1, 4 * TARGETS - 2), _run("b", 1, TARGETS, decides=False)], judge, "a")
    assert found["methods"]["b"]["macro_f1"] == 1.0
    assert {found["methods"]["b"][name] for name in ("map", "auroc", "ece", "brier_skill")} == {None}
    equal = {"difference": 0.0, "low": 0.0, "high": 0.0, "share_positive": 0.0}
    assert found["differences"] == {"b": {"macro_f1": equal}}


def test_curve_of_a_calibration_is_kept(tmp_path):
    results = Results(tmp_path / "out")
    calibration = Calibration(np.ones(2), np.zeros(2), [(-1.0, -2.0), (1.0, 1.5)])
    run = replace(_run("a", 7, 4 * TARGETS - 2), decisions=Decisions(calibration, 0.0, np.zeros(2)))
    results.add(run)
    assert results.find("a", 7, "x").decisions.calibration.curve == calibration.curve


def test_run_is_found_as_it_was_kept(tmp_path):
    results, run = Results(tmp_path / "out"), _run("a", 7, 4 * TARGETS - 2)
    results.add(run)
    found = results.find("a", 7, "x")
    assert found is not None
    assert found.facts == run.facts
    np.testing.assert_array_equal(found.logits, run.logits)
    assert found.decisions.common_threshold == 0.0
    assert results.find("a", 7, "other") is None
    assert results.find("a", 8, "x") is None
