"""One logistic regression for each label, with weights of its classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from training.methods.method import log_odds


def fit_logistic(
    features: Any, targets: NDArray[np.floating], class_weights: NDArray[np.floating], options: dict[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit all labels.

    A label that no row has, or every row, teaches nothing about features: its score is constant.

    Args:
        features: dense or sparse, *Shape:* ``(n_rows, n_features)``.
        targets: 0 or 1, *Shape:* ``(n_rows, n_labels)``.
        class_weights: of negatives and positives, *Shape:* ``(n_labels, 2)``.
        options: of scikit-learn's regression.

    Returns:
        Weights, *Shape:* ``(n_labels, n_features)``, and biases, *Shape:* ``(n_labels,)``.
    """
    n_labels = targets.shape[1]
    weights, biases = np.zeros((n_labels, features.shape[1])), log_odds(targets.mean(axis=0))
    for label in range(n_labels):
        column = targets[:, label].astype(int)
        if 0 < column.sum() < len(column):
            negative, positive = class_weights[label]
            model = LogisticRegression(class_weight={0: negative, 1: positive}, **options).fit(features, column)
            weights[label], biases[label] = model.coef_[0], model.intercept_[0]
    return weights, biases
