"""Files and rows of a registered model."""

from __future__ import annotations

import json
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ptec_udf.errors import ArtifactError
from ptec_udf.model.artifact import Artifact, load_artifact


def copy_artifact(artifact: Artifact, location: Path) -> None:
    """Write the checked files of an artifact, all or none; an intact copy stays."""
    if location.exists():
        try:
            load_artifact(location, artifact.model_id)
            return
        except ArtifactError:
            if location.name != artifact.model_id:  # the table models must not choose a folder to remove
                raise
            shutil.rmtree(location)
    draft = location.with_name(f".{location.name}.{uuid.uuid4().hex}")
    draft.mkdir(parents=True)
    try:
        for name, data in artifact.files.items():
            (draft / name).write_bytes(data)
        draft.rename(location)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def model_row(artifact: Artifact, location: Path, name: str) -> dict[str, Any]:
    """Return the row of ``models``."""
    manifest = artifact.manifest
    return {
        "model_id": artifact.model_id,
        "name": name,
        "location": str(location),
        "backbone": manifest.backbone and manifest.backbone.name,
        "backbone_hash": manifest.backbone and manifest.backbone.content_hash,
        "template": manifest.template,
        "labels": [label.name for label in manifest.labels],
        "metrics": json.dumps(artifact.metrics, ensure_ascii=False),
        "extract_fingerprint": manifest.extract.fingerprint,
        "extract_source": manifest.extract.source,
        "extract_version": manifest.extract.version,
        "format_version": manifest.format_version,
        "created": manifest.created,
        "registered": datetime.now(UTC),
        "logits_id": artifact.network_id,
    }


def label_rows(artifact: Artifact) -> list[dict[str, Any]]:
    """Return the rows of ``labels``; figures of dev are null unless training measured them."""
    measured = artifact.metrics.get("splits", {}).get("dev", {}).get("per_label", {})
    rows = []
    for position, label in enumerate(artifact.manifest.labels):
        figures = measured.get(label.name, {})
        found = {"position": position, "dev_f1": figures.get("f1"), "dev_ap": figures.get("ap")}
        rows.append({"model_id": artifact.model_id, **label.model_dump(), **found})
    return rows
