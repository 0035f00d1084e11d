"""Logits become probabilities and labels."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from ptec_udf.model.calibration import probabilities
from ptec_udf.model.manifest import Label

LABELS = [
    Label(name="a", threshold=0.7, scale=1.0, offset=0.0, training_positives=1),
    Label(name="b", threshold=0.5, scale=2.0, offset=-1.0, training_positives=1),
]


def test_probabilities_are_the_sigmoid_of_each_label_s_line():
    logits = np.array([[0.0, 0.5], [-1000.0, 1000.0]], np.float32)
    expected = expit(logits.astype(np.float64) * [1, 2] + [0, -1])
    np.testing.assert_array_equal(probabilities(logits, LABELS), expected.astype(np.float32))
