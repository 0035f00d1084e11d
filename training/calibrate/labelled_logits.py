"""Labelled rows of an extract, joined to the logits that ``scores`` stores of their texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import functions as F

from ptec_udf.errors import SourceError
from ptec_udf.model.artifact import Artifact
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse
from training.calibrate.config import RecalibrateConfig
from training.data.dataset import Examples
from training.data.folder import read_extract_record, read_extract_rows
from training.data.provenance import Seen, is_seen, seen_by, seen_in

_MIN_LABELLED = 2  # rows with a label, or cross-fitting leaves none to fit on


@dataclass(frozen=True, eq=False)
class LabelledLogits:
    """Rows to fit to.

    Attributes:
        logits: raw logits, *Shape:* ``(n_rows, n_labels)``.
        targets: same shape.
        n_without_logits: labelled rows of the split whose text has no stored logits.
        n_learned: labelled rows that are left out because the model has learned from them; None: not recorded.
        hashes: identify the rows later, see ``seen_in``.
    """

    logits: NDArray[np.float64]
    targets: NDArray[np.bool_]
    n_without_logits: int
    n_learned: int | None
    hashes: Seen


def read_labelled_logits(warehouse: Warehouse, artifact: Artifact, config: RecalibrateConfig) -> LabelledLogits:
    """Join the labelled rows of the split to logits by the hash of their text.

    Raises:
        SourceError: when there are too few such rows, or too few of them have a label of the model.
    """
    names = [label.name for label in artifact.manifest.labels]
    record = read_extract_record(str(config.extract))
    found = read_extract_rows(str(config.extract), record, (config.split,))
    labelled = found[found["labels"].notna()].to_dict("records")
    seen, rows = seen_by(artifact), labelled
    if seen is not None and labelled:
        is_learned = is_seen(seen, record, [row["key"] for row in labelled], [row["text"] for row in labelled])
        rows = [row for row, out in zip(labelled, is_learned, strict=True) if not out]
    logits = _stored_logits(warehouse, artifact, sorted({row["text_hash"] for row in rows}))
    kept = [row for row in rows if row["text_hash"] in logits]
    targets = np.array([[name in set(row["labels"]) for name in names] for row in kept], bool).reshape(-1, len(names))
    n_with_label = int(targets.any(axis=1).sum())
    if len(kept) < config.min_rows or n_with_label < _MIN_LABELLED:
        raise SourceError(
            f"extract: at least {config.min_rows} labelled rows of {config.split} must have logits in scores, and "
            f"{_MIN_LABELLED} of them a label; of {len(labelled)} rows the model has learned from "
            f"{len(labelled) - len(rows)}, {len(kept)} others have logits, and {n_with_label} of these a label; score "
            "their texts with this model first, choose another extract, or lower min_rows"
        )
    return LabelledLogits(
        logits=np.array([logits[row["text_hash"]] for row in kept], np.float64),
        targets=targets,
        n_without_logits=len(rows) - len(kept),
        n_learned=None if seen is None else len(labelled) - len(rows),
        hashes=seen_in(record, [Examples([row["key"] for row in kept], [row["text"] for row in kept], targets)]),
    )


def _stored_logits(warehouse: Warehouse, artifact: Artifact, hashes: Sequence[str]) -> dict[str, list[float]]:
    """Return logits of texts by hash, under the model or another that shares its logits."""
    if not hashes:
        return {}
    wanted = warehouse.spark.createDataFrame([(text_hash,) for text_hash in hashes], "text_hash string")
    found = (
        warehouse.read("scores")
        .where(F.col("model_id").isin(registry.with_logits(warehouse, artifact.model_id)) & F.col("logits").isNotNull())
        .join(F.broadcast(wanted), on="text_hash", how="left_semi")
        .groupBy("text_hash")
        # Two batches may differ in last digits: always take the same ones, so that a fit is reproducible.
        .agg(F.min_by("logits", F.struct("model_id", "key")).alias("logits"))
    )
    return {row["text_hash"]: row["logits"] for row in found.collect()}
