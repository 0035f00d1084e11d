"""What a night is held against that is no night: rows that the model has not learned from, as it judged them then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ptec_udf.monitor.judge import MIX, PROBABILITY, Reference

REFERENCE = "drift_reference"
"""In the metrics of a recalibrated model: what ``figures_by_label`` returns of it."""

PROBABILITIES, PREDICTED = "probabilities", "predicted"


def figures_by_label(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return by label how many rows have a probability in each bin, and how many have the label.

    Of the rows that a recalibration told of, else of dev, else of validation; nothing where an earlier release trained
    or recalibrated the model, or where validation is all there is and the model learned from it in the end. How many
    have the label is None where its threshold was changed and no rows were there.
    """
    if REFERENCE in metrics:
        return dict(metrics[REFERENCE])
    splits = metrics.get("splits", {})
    per_label = (splits.get("dev") or splits.get("validation") or {}).get("per_label", {})
    return {
        label: {PROBABILITIES: figures[PROBABILITIES], PREDICTED: figures[PREDICTED]}
        for label, figures in per_label.items()
        if figures.get(PROBABILITIES)
    }


def training_reference(metrics: Mapping[str, Any]) -> dict[tuple[str, str | None], Reference]:
    """Return what nights of a model are held against, by figure and label.

    Args:
        metrics: of its artifact.

    Returns:
        A reference for each label's probabilities; and one for the mix of labels, where the number of rows that have it
        is known of each.
    """
    found = figures_by_label(metrics)
    references: dict[tuple[str, str | None], Reference] = {
        (PROBABILITY, label): Reference(sum(one[PROBABILITIES].values()), one[PROBABILITIES], one[PREDICTED])
        for label, one in found.items()
    }
    mix = {label: one[PREDICTED] for label, one in found.items()}
    if mix and None not in mix.values():
        references[MIX, None] = Reference(max(one.companies for one in references.values()), mix)
    return references
