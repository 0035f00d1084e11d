"""Which labels of an extract are learned."""

from __future__ import annotations

from typing import Any

from ptec_training.data.config import LabelsConfig
from ptec_udf.errors import ConfigError, SourceError, did_you_mean


def choose_labels(
    found: list[dict[str, Any]], config: LabelsConfig
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the labels to learn and the dropped ones; ``found`` has name and rows of each split, sorted by name.

    Raise ConfigError for an excluded label that does not exist, SourceError where no label has enough rows.
    """
    names, excluded = [label["name"] for label in found], {" ".join(name.split()) for name in config.exclude}
    if absent := sorted(excluded - set(names)):
        hints = {name: did_you_mean(name, names, "remove it or correct its spelling") for name in absent}
        raise ConfigError([f"labels.exclude: no company has the label {name!r}; {hints[name]}" for name in absent])
    labels, dropped = [], []
    for label in found:
        if label["name"] in excluded:
            dropped.append(label | {"reason": "excluded"})
        elif label["train"] < config.min_positives:
            dropped.append(label | {"reason": "too few positives"})
        else:
            labels.append(label)
    if not labels:
        raise SourceError(
            f"at least one label must have {config.min_positives} training companies (labels.min_positives), of "
            f"{len(found)} labels none has; lower labels.min_positives or check labels.column"
        )
    return labels, dropped
