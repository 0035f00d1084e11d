"""Labelled rows of an extract, joined to the logits that ``scores`` stores of their texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import functions as F

from ptec_training.calibrate.config import RecalibrateConfig
from ptec_training.data.dataset import Examples, read_split
from ptec_training.data.folder import read_extract_record
from ptec_training.data.provenance import Seen, is_seen, seen_by, seen_in
from ptec_udf.errors import SourceError
from ptec_udf.model.artifact import Artifact
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse

_MIN_LABELLED = 2  # rows with a label, or cross-fitting leaves none to fit on


@dataclass(frozen=True, eq=False)
class LabelledLogits:
    """Rows to fit to: raw logits and targets, *Shape:* ``(n_rows, n_labels)``, and hashes of the rows, see ``seen_in``.

    Left out are ``n_without_logits`` labelled rows, and ``n_learned`` from which the model has learned.
    """

    logits: NDArray[np.float64]
    targets: NDArray[np.bool_]
    n_without_logits: int
    n_learned: int
    hashes: Seen


def read_labelled_logits(warehouse: Warehouse, artifact: Artifact, config: RecalibrateConfig) -> LabelledLogits:
    """Join the labelled rows of the split to logits by the hash of their text; raise a SourceError for too few."""
    record = read_extract_record(str(config.extract))
    labelled = read_split(str(config.extract), config.split)
    seen, rows = seen_by(artifact), labelled
    if seen is not None:
        rows = labelled.select(np.flatnonzero(~is_seen(seen, record, labelled.keys, labelled.texts)).tolist())
    logits = _stored_logits(warehouse, artifact, rows.texts)
    kept = rows.select([at for at, text in enumerate(rows.texts) if text in logits])
    position = {label["name"]: at for at, label in enumerate(record["labels"])}
    targets = kept.targets[:, [position[label.name] for label in artifact.manifest.labels]].astype(bool)
    n_with_label = int(targets.any(axis=1).sum())
    if len(kept) < config.min_rows or n_with_label < _MIN_LABELLED:
        rule = f"at least {config.min_rows} labelled rows of {config.split} must have logits in scores"
        raise SourceError(
            f"extract: {rule}, {_MIN_LABELLED} of them a label; of {len(labelled)} rows the model has learned from "
            f"{len(labelled) - len(rows)}, {len(kept)} others have logits, {n_with_label} of these a label; score "
            "their texts with this model first, choose another extract, or lower min_rows"
        )
    return LabelledLogits(
        logits=np.array([logits[text] for text in kept.texts], np.float64),
        targets=targets,
        n_without_logits=len(rows) - len(kept),
        n_learned=len(labelled) - len(rows),
        hashes=seen_in(record, [Examples(kept.keys, kept.texts, targets)]),
    )


def _stored_logits(warehouse: Warehouse, artifact: Artifact, texts: Sequence[str]) -> dict[str, list[float]]:
    """Return logits by text, under the model or another that shares its logits."""
    wanted = warehouse.spark.createDataFrame([(text,) for text in dict.fromkeys(texts)], "text string")
    found = (
        warehouse.read("scores")
        .where(F.col("model_id").isin(registry.with_logits(warehouse, artifact.model_id)) & F.col("logits").isNotNull())
        .join(F.broadcast(wanted.withColumn("text_hash", F.sha2("text", 256))), on="text_hash")
        .groupBy("text")
        # Two batches may differ in last digits: always take the same ones, so that a fit is reproducible.
        .agg(F.min_by("logits", F.struct("model_id", "key")).alias("logits"))
    )
    return {row["text"]: row["logits"] for row in found.collect()}
