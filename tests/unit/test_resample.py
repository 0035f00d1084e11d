"""Intervals of a benchmark: figures of rows that count several times, against those of rows that are there so often."""

from __future__ import annotations

import numpy as np
import pytest

from training.benchmark.resample import resampled
from training.benchmark.results import Facts, Run
from training.calibrate.calibrate import Calibration
from training.calibrate.decide import Decisions
from training.evaluate.report import report_on

N_ROWS, N_LABELS, N_SAMPLES = 60, 6, 40
CALIBRATION = Calibration(np.linspace(0.6, 1.4, N_LABELS), np.linspace(-0.5, 0.5, N_LABELS))


@pytest.fixture
def targets():
    """The first label never occurs, the second once, so that some samples lack it, and the last always."""
    targets = np.random.default_rng(1).random((N_ROWS, N_LABELS)) < 0.2
    targets[:, 0], targets[:, 1], targets[:, -1] = False, np.arange(N_ROWS) == 7, True
    return targets.astype(np.float32)


@pytest.fixture
def run(targets):
    noise = np.random.default_rng(2).normal(-1.0, 1.5, targets.shape)
    logits = np.round(noise + 2 * targets, 1).astype(np.float32)  # so that scores tie
    return Run(Facts("a", 1, "x", True, 1.0, 1.0), logits, Decisions(CALIBRATION, 0.2, np.full(N_LABELS, 0.2)))


def test_figures_are_those_of_the_drawn_rows(run, targets):
    base_rates = np.full(N_LABELS, 0.15)
    found = resampled(run, targets, base_rates, N_SAMPLES)
    random = np.random.default_rng(0)
    for at in range(N_SAMPLES):
        rows = random.integers(0, N_ROWS, N_ROWS)
        thresholds = run.decisions.thresholds
        report = report_on(run.logits[rows], targets[rows], CALIBRATION, thresholds, list("abcdef"), base_rates)
        for name, values in found.items():
            assert values[at] == pytest.approx(report["overall"][name], abs=2e-6), name
    assert set(found) == {"macro_f1", "micro_f1", "weighted_f1", "map", "auroc", "brier", "brier_skill", "ece"}


def test_decisions_alone_have_no_samples_of_scores(run, targets):
    only = Run(run.facts, run.decided.astype(np.float32), None)
    found = resampled(only, targets, np.full(N_LABELS, 0.15), N_SAMPLES)
    assert set(found) == {"macro_f1", "micro_f1", "weighted_f1"}
    np.testing.assert_allclose(found["macro_f1"], resampled(run, targets, np.ones(N_LABELS), N_SAMPLES)["macro_f1"])
