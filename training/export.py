"""Write a trained network as an artifact folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from peft import PeftConfig, PrefixTuningConfig, PromptTuningConfig
from safetensors.torch import save

from ptec_training.calibrate.decisions import Decisions
from ptec_training.data.provenance import Seen
from ptec_training.fit.head import fused_head
from ptec_training.fit.inputs import package_versions
from ptec_training.fit.lora import changed_modules, lora_weights, peft_config
from ptec_training.fit.tfidf import FittedTfidf
from ptec_udf.model.artifact import (
    ADAPTER,
    ADAPTER_CONFIG,
    HEAD,
    METRICS,
    SEEN,
    TFIDF,
    TFIDF_BIAS,
    TFIDF_WEIGHT,
    prompt_names,
    seal,
)
from ptec_udf.model.folders import write_artifact_files
from ptec_udf.model.manifest import ExtractOrigin, Label, Manifest
from ptec_udf.model.network import PtecNetwork
from ptec_udf.model.prefix import BackboneShape


def export(
    networks: Sequence[PtecNetwork],
    manifest: Manifest,
    metrics: dict[str, Any],
    out: Path,
    *,
    seen: Seen | None = None,
    tfidf: FittedTfidf | None = None,
) -> None:
    """Write the artifact of trained members, each with a ``StandardisedHead``; ``seen`` has hashes of learned rows."""
    head = fused_head(networks)
    if tfidf is not None:
        head[TFIDF_WEIGHT], head[TFIDF_BIAS] = (torch.from_numpy(part).float().contiguous() for part in tfidf.models)
    files = _adapter_files(networks, manifest) | head_files(head, metrics)
    if tfidf is not None:
        files[TFIDF] = tfidf.vectorizer.to_json()
    if seen is not None:
        files[SEEN] = save(dict(seen))
    write_artifact_files(seal(manifest, files), out)


def head_files(head: dict[str, torch.Tensor], metrics: dict[str, Any]) -> dict[str, bytes]:
    """Make the two files that every artifact has besides its manifest; see ``ptec_udf/model/artifact.py``."""
    return {HEAD: save(head), METRICS: (json.dumps(metrics, indent=1, ensure_ascii=False) + "\n").encode()}


def _adapter_files(networks: Sequence[PtecNetwork], manifest: Manifest) -> dict[str, bytes]:
    """Make PEFT's two files of the prompt or LoRA, if any; the backbone is named and not located."""
    if not manifest.has_adapter:
        return {}
    backbone = networks[0].backbone
    if manifest.lora is not None:
        modules, tensors = changed_modules(backbone), lora_weights(backbone)
        config: PeftConfig = peft_config(manifest.lora.rank, manifest.lora.alpha, modules)
        changes: dict[str, Any] = {"target_modules": modules}  # PEFT writes a set, in any order
    else:
        prompts = [network.prompt for network in networks if network.prompt is not None]
        tensors = dict(zip(prompt_names(len(networks)), prompts, strict=True))
        config, changes = _prompt_config(networks[0]), {}
    changes |= {"inference_mode": True, "base_model_name_or_path": manifest.backbone and manifest.backbone.name}
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        values = json.loads((Path(folder) / ADAPTER_CONFIG).read_text(encoding="utf-8")) | changes
    return {
        ADAPTER: save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}),
        ADAPTER_CONFIG: (json.dumps(values, indent=1, sort_keys=True) + "\n").encode(),
    }


def _prompt_config(network: PtecNetwork) -> PeftConfig:
    """Describe the prompt for PEFT, which cannot read every family's configuration."""
    assert network.prompt is not None
    shape = BackboneShape.of(network.backbone)
    options: dict[str, Any] = {
        "task_type": "FEATURE_EXTRACTION",
        "num_virtual_tokens": len(network.prompt),
        "num_attention_heads": shape.n_heads,
    }
    if network.kind == "input":
        return PromptTuningConfig(**options, num_layers=shape.n_layers, token_dim=shape.width)
    n_layers = network.prompt.shape[1] // (2 * shape.n_heads * shape.head_width)
    return PrefixTuningConfig(**options, num_layers=n_layers, token_dim=shape.n_heads * shape.head_width)


def common_fields(record: dict[str, Any], names: list[str], decisions: Decisions, targets: NDArray) -> dict[str, Any]:
    """Return the fields of a manifest that every kind of model has; ``targets`` are of the learned rows."""
    calibration = decisions.calibration
    columns = (decisions.thresholds, calibration.scale, calibration.offset, targets.sum(axis=0).astype(int))
    fields = ("name", "threshold", "scale", "offset", "training_positives")
    labels = zip(names, *(column.tolist() for column in columns), strict=True)
    origin = {field: record[field] for field in ("fingerprint", "source_id", "version")}
    return {
        "created": datetime.now(UTC).replace(microsecond=0),
        "template": record["template"],
        "threshold_logit": decisions.common_threshold,
        "labels": [Label(**dict(zip(fields, values, strict=True))) for values in labels],
        "extract": ExtractOrigin(source=record["name"], **origin),
        "packages": package_versions(),
    }
