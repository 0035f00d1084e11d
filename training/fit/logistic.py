"""One logistic regression for each label, with class weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

_MIN_SHARE = 1e-5


class LinearModels(NamedTuple):
    """Weights, *Shape:* ``(n_labels, n_features)``, and biases, *Shape:* ``(n_labels,)``, of all labels."""

    weights: NDArray[np.float64]
    biases: NDArray[np.float64]

    def logits(self, features: Any) -> NDArray[np.float64]:
        """Return logits of dense or sparse features, *Shape:* ``(n_rows, n_labels)``."""
        return np.asarray(features @ self.weights.T) + self.biases


def fit_logistic(
    features: Any, targets: NDArray[np.floating], class_weights: NDArray[np.floating], options: dict[str, Any]
) -> LinearModels:
    """Fit all labels; the logit of a label that no row has, or every row, is constant.

    Args:
        features: dense or sparse, *Shape:* ``(n_rows, n_features)``.
        targets: 0 or 1, *Shape:* ``(n_rows, n_labels)``.
        class_weights: of negatives and positives, *Shape:* ``(n_labels, 2)``.
        options: of scikit-learn's ``LogisticRegression``.
    """
    n_labels = targets.shape[1]
    weights, biases = np.zeros((n_labels, features.shape[1])), log_odds(targets.mean(axis=0))
    for label in range(n_labels):
        column = targets[:, label].astype(int)
        if 0 < column.sum() < len(column):
            class_weight = dict(enumerate(class_weights[label]))
            model = LogisticRegression(class_weight=class_weight, **options).fit(features, column)
            weights[label], biases[label] = model.coef_[0], model.intercept_[0]
    return LinearModels(weights, biases)


def log_odds(shares: NDArray[np.floating]) -> NDArray[np.float64]:
    """Turn shares from 0 to 1, both included, into finite log-odds."""
    return np.asarray(logit(np.clip(np.asarray(shares, np.float64), _MIN_SHARE, 1 - _MIN_SHARE)))
