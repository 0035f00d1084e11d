"""Models outside a warehouse: a folder, a hub or MLflow; and the model card that a hub shows."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ptec_udf.errors import ArtifactError
from ptec_udf.model.artifact import ALL_FILES, CARD, MANIFEST, Artifact

_MLFLOW = ("models:/", "runs:/", "mlflow-artifacts:/")
_MAX_LABELS = 100  # shown in a card

_TEMPLATE = """\
---
library_name: ptec-batch-scoring
pipeline_tag: text-classification
tags: [multi-label, ptec, prompt-tuning]
---

# PTEC model {model_id}

Independent, calibrated probabilities of {n_labels} labels for a company text. The language model
`{backbone}` is frozen; this folder has {parts}. Method: Prompt Tuned Embedding Classification, [arXiv 2309.12075](https://arxiv.org/abs/2309.12075).

## Use

```python
from ptec_udf import PtecModel

model = PtecModel.from_pretrained("{name}")
model.predict_proba({example})
```

The template of a text is `{template}`.

## Data

Trained on `{source}`, version {version} (fingerprint `{fingerprint}`).

| label | training companies | threshold |
|---|---|---|
{labels}

## Metrics

{metrics}

Intervals are 95 % bootstrap intervals over companies. Validation metrics are optimistic, because validation selected
the epoch and the thresholds.

## Limits

- The labels are those of the training data. A company of another kind gets low probabilities for all of them.
- Probabilities are calibrated on average over labels. They are less reliable for labels with few training companies.
- Texts longer than {max_tokens} tokens are cut.
- The backbone is not part of this folder: it is found by its name, and its content hash is checked.
"""


def find_artifact(location: str) -> Path:
    """Return the folder of a model: a path, ``hf:ORG/NAME@REVISION`` or an MLflow address; raise ArtifactError."""
    if location.startswith("hf:"):
        return _download_from_hub(*location.removeprefix("hf:").partition("@")[::2])
    if location.startswith(_MLFLOW):
        return _download_from_mlflow(location)
    if not Path(location).is_dir():
        raise ArtifactError(f"a model must be a folder, hf:ORG/NAME or an MLflow address, there is no {location!r}")
    return Path(location)


def push(artifact: Artifact, name: str, *, private: bool, token: str | None) -> str:
    """Upload the files and the card to ``ORG/NAME``; return the commit's address."""
    from huggingface_hub import HfApi

    hub = HfApi(token=token)
    hub.create_repo(name, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for file, data in {**artifact.files, CARD: model_card(artifact, name).encode()}.items():
            (Path(folder) / file).write_bytes(data)
        return str(hub.upload_folder(repo_id=name, folder_path=folder, commit_message=f"model {artifact.model_id}"))


def model_card(artifact: Artifact, name: str = "path/to/this/folder") -> str:
    """Return the card in Markdown; it contains label names, and no text of a company."""
    manifest = artifact.manifest
    adapter = f"{'LoRA' if manifest.lora else 'a soft prompt'} and " if manifest.has_adapter else ""
    is_text = manifest.template == "{text}"
    return _TEMPLATE.format(
        model_id=artifact.model_id[:12],
        name=name,
        n_labels=len(manifest.labels),
        backbone=manifest.backbone.name if manifest.backbone else "none, TF-IDF",
        parts=f"{adapter}a classification head",
        template=manifest.template,
        example='["We insure drones."]' if is_text else "table  # with the columns of the template",
        source=manifest.extract.source,
        version=manifest.extract.version,
        fingerprint=manifest.extract.fingerprint[:12],
        labels=_label_rows(artifact),
        metrics=_metrics(artifact.metrics.get("splits", {})),
        max_tokens=manifest.max_tokens or "any number of",
    )


def _label_rows(artifact: Artifact) -> str:
    labels = artifact.manifest.labels
    rows = [f"| {_cell(one.name)} | {one.training_positives} | {one.threshold:.3f} |" for one in labels[:_MAX_LABELS]]
    more = len(labels) - len(rows)
    return "\n".join([*rows, *([f"| {more} more | | |"] if more else [])])


def _metrics(splits: dict[str, Any]) -> str:
    if not splits:
        return "None were measured."
    lines = ["| split | companies | mAP | macro-F1 | calibration error |", "|---|---|---|---|---|"]
    for split, report in splits.items():
        overall, intervals = report["overall"], report.get("intervals", {})
        figures = [_figure(overall.get(name), intervals.get(name)) for name in ("map", "macro_f1", "ece")]
        lines.append(f"| {split} | {overall.get('n_rows', '')} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _figure(value: float | None, interval: list[float | None] | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval and None not in interval else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _download_from_hub(name: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(ALL_FILES)))
    except Exception as error:  # a proxy's, for instance, is no OSError
        raise ArtifactError(f"model hf:{name} cannot be downloaded ({type(error).__name__}); check its name") from error


def _download_from_mlflow(location: str) -> Path:
    import mlflow.artifacts

    try:
        folder = Path(mlflow.artifacts.download_artifacts(location))
    except Exception as error:  # mlflow raises kinds of its own, and those of its stores
        raise ArtifactError(
            f"model {location} cannot be downloaded ({type(error).__name__}); check its name and MLFLOW_TRACKING_URI"
        ) from error
    for manifest in folder.rglob(MANIFEST):
        return manifest.parent
    raise ArtifactError(f"model {location} must contain a PTEC artifact, found no {MANIFEST}; log it by ptec register")
