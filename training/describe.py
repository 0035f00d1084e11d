"""What every artifact's manifest says alike: labels with what was decided for them, and where the rows came from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptec_udf.model.manifest import ExtractOrigin, Label
from training.calibrate.decisions import Decisions
from training.packages import packages


def common_fields(
    record: dict[str, Any], names: list[str], decisions: Decisions, targets: NDArray[np.floating]
) -> dict[str, Any]:
    """Return the fields of a manifest that do not depend on the kind of model.

    Args:
        record: of the extract.
        names: the labels, in order.
        decisions: the model's calibration and thresholds.
        targets: of the rows that it learned from, *Shape:* ``(n_rows, n_labels)``.
    """
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "template": record["template"],
        "threshold_logit": decisions.common_threshold,
        "curve": decisions.calibration.curve,
        "labels": _labels(names, decisions, targets),
        "extract": ExtractOrigin(
            fingerprint=record["fingerprint"],
            source=record["name"],
            source_id=record["source_id"],
            version=record["version"],
        ),
        "packages": packages(),
        "files": {},
    }


def _labels(names: list[str], decisions: Decisions, targets: NDArray[np.floating]) -> list[Label]:
    """Describe the labels."""
    calibration = decisions.calibration
    positives = targets.sum(axis=0)
    columns = (names, decisions.thresholds, calibration.scale, calibration.offset, positives)
    return [
        Label(
            name=name, threshold=float(threshold), scale=float(scale), offset=float(offset), training_positives=int(n)
        )
        for name, threshold, scale, offset, n in zip(*columns, strict=True)
    ]
