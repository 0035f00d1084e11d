"""Reference distributions from held-out training rows, as the model scored them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ptec_udf.monitor.judge import MIX, PROBABILITY, Distribution

REFERENCE = "drift_reference"
"""In the metrics of a recalibrated model: the figures by label under its new parameters."""

PROBABILITIES, PREDICTED = "probabilities", "predicted"


def figures_by_label(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return for each label its probabilities by bin, and the number of rows that have the label.

    The rows come from the recalibration, else from dev, else from validation. The number is None if a threshold was set
    without rows; the result is empty if the metrics have no figures of rows that the model has not learned from.
    """
    if REFERENCE in metrics:
        return dict(metrics[REFERENCE])
    splits = metrics.get("splits", {})
    per_label = (splits.get("dev") or splits.get("validation") or {}).get("per_label", {})
    names = PROBABILITIES, PREDICTED
    return {label: {name: row[name] for name in names} for label, row in per_label.items() if row.get(PROBABILITIES)}


def training_reference(metrics: Mapping[str, Any]) -> dict[tuple[str, str | None], Distribution]:
    """Return an artifact's probabilities of each label, and the label mix if the rows are known for all labels."""
    found = figures_by_label(metrics)
    references: dict[tuple[str, str | None], Distribution] = {}
    for label, row in found.items():
        counts = Counter(row[PROBABILITIES])
        references[PROBABILITY, label] = Distribution(counts.total(), counts, over=row[PREDICTED])
    mix = {label: row[PREDICTED] for label, row in found.items()}
    if mix and None not in mix.values():
        references[MIX, None] = Distribution(max(one.companies for one in references.values()), Counter(mix))
    return references
