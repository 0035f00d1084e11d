"""Auxiliary labels of an extract: what training may learn beside the taxonomy's labels, to shape the prompt.

They are often noisy, for instance keywords that a company gave itself: a row without any is taken for one that
nobody has labelled, not for one that none of them suits.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ptec_udf.errors import SourceError
from training.data.config import LabelColumn


def learned_columns(df: DataFrame) -> list[str]:
    """Name the columns of labels that a frame has."""
    return [column for column in ("labels", "auxiliary") if column in df.columns]


def null_if_none(labels: Column) -> Column:
    """Make an array without labels null."""
    return F.when(F.size(labels) > 0, labels)


def choose_auxiliary(positives: dict[str, dict[str, int]], config: LabelColumn) -> list[dict[str, Any]]:
    """Return the auxiliary labels to learn, in alphabetical order, each with its counts.

    Args:
        positives: companies by label and split.
        config: how many training companies a label needs.

    Raises:
        SourceError: where no label has enough.
    """
    chosen = [name for name in sorted(positives) if positives[name]["train"] >= config.min_positives]
    if not chosen:
        raise SourceError(
            f"at least one auxiliary label must have {config.min_positives} training companies "
            f"(labels.auxiliary.min_positives), of {len(positives)} none has; lower it, or leave labels.auxiliary out"
        )
    return [{"name": name, **positives[name]} for name in chosen]
