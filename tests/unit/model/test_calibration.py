"""Logits become probabilities and labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from ptec_udf.model.calibration import apply_curve, probabilities
from ptec_udf.model.manifest import Label

LABELS = [
    Label(name="a", threshold=0.7, scale=1.0, offset=0.0, training_positives=1),
    Label(name="b", threshold=0.5, scale=2.0, offset=-1.0, training_positives=1),
]
CURVE = [(-2.0, -3.0), (0.0, -0.5), (1.0, 2.0)]


def test_probabilities_are_the_sigmoid_of_each_label_s_line():
    logits = np.array([[0.0, 0.5], [-1000.0, 1000.0]], np.float32)
    expected = expit(logits.astype(np.float64) * [1, 2] + [0, -1])
    np.testing.assert_array_equal(probabilities(logits, LABELS, None), expected.astype(np.float32))


class TestCurve:
    @pytest.mark.parametrize(("x", "y"), [(-2, -3), (-1, -1.75), (0, -0.5), (0.5, 0.75), (1, 2), (-5, -6), (4, 5)])
    def test_interpolates_and_shifts_beyond_its_ends(self, x, y):
        assert apply_curve(np.array([float(x)]), CURVE, np.clip)[0] == pytest.approx(y)

    def test_comes_after_the_line(self):
        found = probabilities(np.array([0.0, 0.5], np.float32), LABELS, CURVE)
        np.testing.assert_allclose(found, expit([-0.5, -0.5]), rtol=1e-6)
