"""Figures against scikit-learn, hand-computed cases and degenerate labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from ptec_udf.errors import TrainingError
from training.calibrate.calibrate import Calibration
from training.evaluate.bootstrap import bootstrap_interval
from training.evaluate.metrics import calibration_error, macro_f1, mean_average_precision
from training.evaluate.report import report_on

SAME = Calibration(np.ones(8), np.zeros(8))
LABELS = [f"label {i}" for i in range(8)]
HALF = np.full(8, 0.5)


@pytest.fixture
def cells():
    """Logits and targets of 300 rows and 8 labels; the first never occurs, the last always does."""
    random = np.random.default_rng(0)
    targets = random.random((300, 8)) < np.linspace(0.02, 0.3, 8)
    targets[:, 0], targets[:, 7] = False, True
    return np.round(random.normal(-1.5, 1.5, (300, 8)) + 2 * targets, 1), targets


def only(column):
    """Evaluate one label at threshold .5 without calibration: (logits, targets) as lists."""
    logits, targets = (np.array(values, float)[:, None] for values in column)
    return report_on(logits, targets, Calibration(np.ones(1), np.zeros(1)), np.array([0.5]), ["a"])


def test_figures_over_labels_equal_scikit_learn(cells):
    logits, targets = cells
    overall = report_on(logits, targets, SAME, HALF, LABELS)["overall"]
    decisions, occur, both = logits >= 0, slice(1, None), slice(1, 7)
    assert (overall["n_rows"], overall["n_labels"], overall["n_labels_that_occur"]) == (300, 8, 7)
    expected = {
        "macro_f1": f1_score(targets[:, occur], decisions[:, occur], average="macro"),
        "weighted_f1": f1_score(targets[:, occur], decisions[:, occur], average="weighted"),
        "micro_f1": f1_score(targets, decisions, average="micro"),
        "map": average_precision_score(targets[:, occur], logits[:, occur], average="macro"),
        "auroc": roc_auc_score(targets[:, both], logits[:, both], average="macro"),
        "brier": np.mean((expit(logits) - targets) ** 2),
    }
    assert {name: overall[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_figures_of_each_label_equal_scikit_learn(cells):
    logits, targets = cells
    per_label = report_on(logits, targets, SAME, HALF, LABELS)["per_label"]
    for i in range(1, 7):
        figures, y, decided = per_label[LABELS[i]], targets[:, i], logits[:, i] >= 0
        assert (figures["positives"], figures["predicted"]) == (y.sum(), decided.sum())
        assert figures["f1"] == pytest.approx(f1_score(y, decided), abs=1e-6)
        assert figures["precision"] == pytest.approx(precision_score(y, decided), abs=1e-6)
        assert figures["recall"] == pytest.approx(recall_score(y, decided), abs=1e-6)
        assert figures["ap"] == pytest.approx(average_precision_score(y, logits[:, i]), abs=1e-6)
        assert figures["auroc"] == pytest.approx(roc_auc_score(y, logits[:, i]), abs=1e-6)
        assert figures["threshold"] == 0.5


def test_small_case_by_hand():
    figures = only(([3.0, 1.0, -1.0, -2.0], [1, 0, 1, 0]))["per_label"]["a"]
    assert (figures["precision"], figures["recall"], figures["f1"]) == (0.5, 0.5, 0.5)
    assert figures["ap"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-6)
    assert figures["auroc"] == 0.75


def test_label_without_positives_is_none_and_left_out_of_averages():
    report = only(([1.0, -1.0, -2.0], [0, 0, 0]))
    figures = report["per_label"]["a"]
    assert [figures[name] for name in ("f1", "recall", "ap", "auroc")] == [None] * 4
    assert (figures["positives"], figures["predicted"], figures["precision"]) == (0, 1, 0.0)
    assert [report["overall"][name] for name in ("macro_f1", "micro_f1", "weighted_f1", "map", "auroc")] == [None] * 5


def test_label_with_positives_only_has_ap_but_no_auroc():
    figures = only(([1.0, -1.0], [1, 1]))["per_label"]["a"]
    assert (figures["ap"], figures["auroc"], figures["recall"], figures["precision"]) == (1.0, None, 0.5, 1.0)


def test_label_that_is_never_predicted_has_f1_0_and_no_precision():
    figures = only(([-1.0, -2.0], [1, 0]))["per_label"]["a"]
    assert (figures["f1"], figures["recall"], figures["precision"]) == (0.0, 0.0, None)


def test_probability_equal_to_the_threshold_is_predicted():
    assert only(([0.0, -1e-9], [1, 0]))["per_label"]["a"]["predicted"] == 1


def test_ranking_does_not_suffer_from_saturated_probabilities():
    assert only(([900.0, 800.0, 700.0], [1, 0, 0]))["overall"]["map"] == 1.0


def test_calibration_and_thresholds_decide_together():
    calibration = Calibration(np.array([1.0, 2.0]), np.array([0.0, -2.0]))
    logits = np.array([[0.5, 0.9], [-0.5, 1.1]])
    report = report_on(logits, logits > 0, calibration, np.array([0.7, 0.5]), ["a", "b"])["per_label"]
    assert (report["a"]["predicted"], report["b"]["predicted"]) == (0, 1)


def test_report_is_plain_json_with_six_digits(cells):
    report = report_on(cells[0].astype(np.float32), cells[1].astype(np.int64), SAME, HALF, LABELS)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["overall"]["brier"] == round(report["overall"]["brier"], 6)


def test_names_must_be_as_many_as_columns(cells):
    with pytest.raises(ValueError, match="zip"):
        report_on(*cells, SAME, HALF, LABELS[:-1])


def test_shapes_that_differ_are_refused(cells):
    with pytest.raises(TrainingError, match="same shape"):
        report_on(cells[0], cells[1][:-1], SAME, HALF, LABELS)


def test_constant_base_rate_has_no_brier_skill():
    random = np.random.default_rng(4)
    rates = np.linspace(0.05, 0.4, 8)
    targets = random.random((20_000, 8)) < rates
    constant = Calibration(np.ones(8), logit(rates))
    overall = report_on(np.zeros(targets.shape), targets, constant, HALF, LABELS)["overall"]
    assert overall["brier_skill"] == pytest.approx(0.0, abs=1e-3)
    exact = report_on(np.zeros(targets.shape), targets, constant, HALF, LABELS, base_rates=rates)["overall"]
    assert exact["brier_skill"] == pytest.approx(0.0, abs=1e-6)


def test_brier_skill_is_measured_against_the_given_base_rates(cells):
    logits, targets = cells
    rates = np.full(8, 0.25)
    overall = report_on(logits, targets, SAME, HALF, LABELS, base_rates=rates)["overall"]
    expected = 1 - np.mean((expit(logits) - targets) ** 2) / np.mean((rates - targets) ** 2)
    assert overall["brier_skill"] == pytest.approx(expected, abs=1e-5)


def test_perfect_calibration_has_the_error_of_chance():
    random = np.random.default_rng(5)
    p = random.beta(0.5, 4.0, (1500, 20))
    error, by_chance, n_cells = calibration_error(p, random.random(p.shape) < p)
    assert n_cells == (p >= 0.05).sum()
    assert 0 < by_chance < 0.01
    assert error == pytest.approx(by_chance, abs=0.006)


def test_wrong_calibration_has_a_larger_error_than_chance():
    random = np.random.default_rng(6)
    p = random.uniform(0.05, 0.7, (1500, 20))
    error, by_chance, _ = calibration_error(p + 0.2, random.random(p.shape) < p)
    assert error == pytest.approx(0.2, abs=0.01)
    assert error > 10 * by_chance


def test_calibration_error_leaves_certain_negatives_out():
    p = np.array([[0.049, 0.049], [0.05, 0.6]])
    error, _, n_cells = calibration_error(p, np.array([[1, 1], [0, 1]]))
    assert n_cells == 2
    assert error == pytest.approx((0.05 + 0.4) / 2)


def test_equal_probabilities_share_a_bin_whatever_the_order_of_rows():
    targets = np.repeat([1, 0], [30, 70])[:, None]
    assert calibration_error(np.full((100, 1), 0.3), targets)[0] == pytest.approx(0.0)


def test_calibration_error_without_cells_is_none(cells):
    overall = report_on(np.full((300, 8), -20.0), cells[1], SAME, HALF, LABELS)["overall"]
    assert (overall["ece"], overall["ece_by_chance"], overall["n_cells_ece"]) == (None, None, 0)


def test_macro_f1_and_map_equal_scikit_learn_with_ties(cells):
    logits, targets = np.round(cells[0]), cells[1]
    expected = f1_score(targets[:, 1:], logits[:, 1:] > 0, average="macro")
    assert macro_f1(logits > 0, targets) == pytest.approx(expected)
    expected = average_precision_score(targets[:, 1:], logits[:, 1:], average="macro")
    assert mean_average_precision(logits, targets) == pytest.approx(expected)


def test_macro_f1_and_map_are_nan_where_no_label_occurs():
    nothing = np.zeros((3, 2), bool)
    assert np.isnan(macro_f1(~nothing, nothing))
    assert np.isnan(mean_average_precision(np.zeros((3, 2)), nothing))


def test_interval_leaves_out_what_is_undefined_and_lies_around_the_figure():
    samples = np.append(np.linspace(0, 1, 1001), [np.nan] * 50)
    assert bootstrap_interval(samples, np.nan) == pytest.approx((0.025, 0.975))
    assert bootstrap_interval(samples, 0.4) == pytest.approx((-0.075, 0.875))  # samples are too high by .1
    assert bootstrap_interval(samples, 0.5, confidence=0.8) == pytest.approx((0.1, 0.9))
    assert np.isnan(bootstrap_interval(np.full(3, np.nan), 0.4)).all()
