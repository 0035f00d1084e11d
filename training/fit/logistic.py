"""One logistic regression for each label, with weights of its classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

_LEAST_SHARE = 1e-5


@dataclass(frozen=True)
class Lines:
    """Regressions of all labels.

    Attributes:
        weights: *Shape:* ``(n_labels, n_features)``.
        biases: *Shape:* ``(n_labels,)``.
        flop: floating-point operations, by 4 for each value of the features and iteration of the solver.
    """

    weights: NDArray[np.float64]
    biases: NDArray[np.float64]
    flop: float


def fit_logistic(
    features: Any, targets: NDArray[np.floating], class_weights: NDArray[np.floating], options: dict[str, Any]
) -> Lines:
    """Fit all labels.

    A label that no row has, or every row, teaches nothing about features: its score is constant.

    Args:
        features: dense or sparse, *Shape:* ``(n_rows, n_features)``.
        targets: 0 or 1, *Shape:* ``(n_rows, n_labels)``.
        class_weights: of negatives and positives, *Shape:* ``(n_labels, 2)``.
        options: of scikit-learn's regression.
    """
    n_labels = targets.shape[1]
    weights, biases = np.zeros((n_labels, features.shape[1])), log_odds(targets.mean(axis=0))
    iterations = 0
    for label in range(n_labels):
        column = targets[:, label].astype(int)
        if 0 < column.sum() < len(column):
            negative, positive = class_weights[label]
            model = LogisticRegression(class_weight={0: negative, 1: positive}, **options).fit(features, column)
            weights[label], biases[label] = model.coef_[0], model.intercept_[0]
            iterations += int(model.n_iter_[0])
    n_values = features.nnz if issparse(features) else features.size
    return Lines(weights, biases, flop=4.0 * n_values * iterations)


def log_odds(shares: NDArray[np.floating]) -> NDArray[np.float64]:
    """Turn shares from 0 to 1, which may be exactly that, into finite log-odds."""
    return np.asarray(logit(np.clip(np.asarray(shares, np.float64), _LEAST_SHARE, 1 - _LEAST_SHARE)))
