"""Labelled rows of an extract beside the logits that scores hold of their texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import functions as F

from ptec_udf.errors import SourceError
from ptec_udf.model.artifact import Artifact
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse
from training.calibrate.recalibration.config import RecalibrateConfig
from training.data.dataset import Examples
from training.data.folder import read_extract_record
from training.data.provenance import Seen, is_seen, seen_by, seen_in
from training.data.rows import read_extract_rows

_LEAST_WITH_LABEL = 2  # or cross-fitting would leave none to fit on


@dataclass(frozen=True, eq=False)
class LabelledLogits:
    """Rows that can fit.

    Attributes:
        logits: raw logits, *Shape:* ``(n_rows, n_labels)``.
        targets: 0 or 1, of the same shape.
        left_out: labelled rows of the split whose text has no logits.
        learned: labelled rows of the split that the model has learned from, which would make it too sure of itself;
            None: it does not say.
        hashes: by which the rows are known again, see ``seen_in``.
    """

    logits: NDArray[np.float64]
    targets: NDArray[np.bool_]
    left_out: int
    learned: int | None
    hashes: Seen


def labelled_logits(warehouse: Warehouse, artifact: Artifact, config: RecalibrateConfig) -> LabelledLogits:
    """Join the labelled rows of the split to logits, by the hash of their text.

    Raises:
        SourceError: when there are too few such rows, or too few of them have a label of the model.
    """
    names = [label.name for label in artifact.manifest.labels]
    record = read_extract_record(str(config.extract))
    labelled = _labelled(str(config.extract), record, config.split)
    seen = seen_by(artifact)
    rows = _not_learned(seen, record, labelled)
    logits = _stored(warehouse, artifact, sorted({row["text_hash"] for row in rows}))
    kept = [row for row in rows if row["text_hash"] in logits]
    labels = [set(row["labels"]) for row in kept]
    targets = np.array([[name in those for name in names] for those in labels], bool).reshape(-1, len(names))
    n_with_label = int(targets.any(axis=1).sum())
    if len(kept) < config.least_rows or n_with_label < _LEAST_WITH_LABEL:
        raise SourceError(
            f"extract: at least {config.least_rows} labelled rows of {config.split} must have logits in scores, and "
            f"{_LEAST_WITH_LABEL} of them a label; of {len(labelled)} rows the model has learned from "
            f"{len(labelled) - len(rows)}, {len(kept)} others have logits, and {n_with_label} of these a label; score "
            "their texts with this model first, choose another extract, or lower least_rows"
        )
    learned = None if seen is None else len(labelled) - len(rows)
    return LabelledLogits(
        logits=np.array([logits[row["text_hash"]] for row in kept], np.float64),
        targets=targets,
        left_out=len(rows) - len(kept),
        learned=learned,
        hashes=seen_in(record, [Examples([row["key"] for row in kept], [row["text"] for row in kept], targets)]),
    )


def _labelled(extract: str, record: dict[str, Any], split: str) -> list[dict[str, Any]]:
    """Return the split's labelled rows, in an order that files and their rows do not decide."""
    table = read_extract_rows(extract, record)
    ordered = table.sort_by([("text_hash", "ascending"), ("key", "ascending")]).to_pylist()
    return [row for row in ordered if row["split"] == split and row["labels"] is not None]


def _not_learned(seen: Seen | None, record: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that the model has not learned from, as far as its artifact tells."""
    if seen is None or not rows:
        return rows
    is_learned = is_seen(seen, record, [row["key"] for row in rows], [row["text"] for row in rows])
    return [row for row, out in zip(rows, is_learned, strict=True) if not out]


def _stored(warehouse: Warehouse, artifact: Artifact, hashes: Sequence[str]) -> dict[str, list[float]]:
    """Logits of texts by their hash, under the model or one that shares its logits."""
    if not hashes:
        return {}
    wanted = warehouse.spark.createDataFrame([(text_hash,) for text_hash in hashes], "text_hash string")
    models = registry.with_logits(warehouse, artifact)
    found = (
        warehouse.read("scores")
        .where(F.col("model_id").isin(models) & F.col("logits").isNotNull())
        .join(F.broadcast(wanted), on="text_hash", how="left_semi")
        .groupBy("text_hash")
        # Two batches may differ in last digits: always the same ones, so that a fit gives the same model again.
        .agg(F.min_by("logits", F.struct("model_id", "key")).alias("logits"))
    )
    return {row["text_hash"]: row["logits"] for row in found.collect()}
