"""A trained network to an artifact folder, in one rename."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import save

from ptec_udf.model.artifact_format import (
    ADAPTER,
    ADAPTER_CONFIG,
    CHOICE,
    HEAD,
    MANIFEST,
    METRICS,
    PROMPT,
    SEEN,
    TFIDF,
    TFIDF_BIAS,
    TFIDF_WEIGHT,
    seal,
)
from ptec_udf.model.ensemble import MeanNetwork
from ptec_udf.model.manifest import LoraSpec, Manifest
from ptec_udf.model.network import PtecNetwork
from ptec_udf.model.prefix import BackboneShape
from training.artifact_folder import write_files
from training.fit import lora
from training.fit.head import fused_head
from training.fit.prompt import prompts_of
from training.fit.tfidf import Beside


def export(
    network: PtecNetwork | MeanNetwork,
    manifest: Manifest,
    metrics: dict[str, Any],
    out: Path,
    choice: dict[str, torch.Tensor] | None = None,
    seen: dict[str, torch.Tensor] | None = None,
    terms: Beside | None = None,
) -> Manifest:
    """Write the artifact.

    Args:
        network: trained, with a ``StandardisedHead`` (each member one); its scaling is fused into what is written.
        manifest: all but hashes and ids.
        metrics: what training measured, JSON-ready.
        out: the folder; an earlier artifact there is replaced.
        choice: tensors of the first training, where a second followed.
        seen: hashes of the rows that were learned from.
        terms: what is added to the network's logits.

    Returns:
        The sealed manifest, with its model_id.
    """
    head = fused_head(network)
    if terms is not None:
        weights, biases = (torch.from_numpy(values).float() for values in (terms.lines.weights, terms.lines.biases))
        head |= {TFIDF_WEIGHT: weights.contiguous(), TFIDF_BIAS: biases}
    files = adapter_files(network, manifest) | head_files(head, metrics)
    if terms is not None:
        files[TFIDF] = terms.terms.to_json()
    if choice is not None:
        files[CHOICE] = save(choice)
    if seen is not None:
        files[SEEN] = save(seen)
    return write_artifact(manifest, files, out)


def write_artifact(manifest: Manifest, files: dict[str, bytes], out: Path) -> Manifest:
    """Seal a manifest over its files and write them all in one rename.

    Args:
        manifest: all but hashes and ids.
        files: bytes of all other files, by name.
        out: the folder; an earlier artifact there is replaced.
    """
    sealed, files[MANIFEST] = seal(manifest, files)
    write_files(files, out)
    return sealed


def head_files(head: dict[str, torch.Tensor], metrics: dict[str, Any]) -> dict[str, bytes]:
    """Make the two files that every artifact has beside its manifest; for the head's shapes see ``Artifact``."""
    return {
        HEAD: save(head),
        METRICS: (json.dumps(metrics, indent=1, ensure_ascii=False) + "\n").encode(),
    }


def adapter_files(network: PtecNetwork | MeanNetwork, manifest: Manifest) -> dict[str, bytes]:
    """Make PEFT's own two files of what was trained on the backbone, if any; its path is replaced by its name."""
    if not manifest.has_adapter:
        return {}
    first = network.members[0]
    weights, values = _prompt_in_peft(first) if manifest.lora is None else _lora_in_peft(first, manifest.lora)
    if manifest.members is not None:
        weights = save({name: prompt.contiguous() for name, prompt in prompts_of(network).items()})
    values["base_model_name_or_path"] = manifest.backbone and manifest.backbone.name
    return {
        ADAPTER: weights,
        ADAPTER_CONFIG: (json.dumps(values, indent=1, sort_keys=True) + "\n").encode(),
    }


def _lora_in_peft(network: PtecNetwork, form: LoraSpec) -> tuple[bytes, dict[str, Any]]:
    """Return LoRA's weights and configuration as PEFT writes them."""
    layers = lora.changed_layers(network.backbone)
    with tempfile.TemporaryDirectory() as folder:
        lora.peft_config(form.rank, form.alpha, layers).save_pretrained(folder)
        values = json.loads((Path(folder) / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    values |= {"target_modules": layers, "inference_mode": True}  # PEFT writes a set, in any order
    return save({name: value.cpu().contiguous() for name, value in lora.weights(network.backbone).items()}), values


def _prompt_in_peft(network: PtecNetwork) -> tuple[bytes, dict[str, Any]]:
    """Let PEFT write the prompt's weights and its configuration."""
    if network.prompt is None:
        raise TypeError("a network without a prompt must have LoRA")
    shape = BackboneShape.of(network.backbone)
    prompt = prompts_of(network)[PROMPT]
    # Given in full, since PEFT looks for these in the configuration under names that some families lack.
    options: dict[str, Any] = {
        "task_type": "FEATURE_EXTRACTION",
        "num_virtual_tokens": len(prompt),
        "num_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
    }
    if network.kind != "input":
        options["num_layers"] = shape.prompted_layers(prompt)
        config: Any = PrefixTuningConfig(**options, token_dim=shape.n_heads * shape.head_width)
    else:
        config = PromptTuningConfig(**options, token_dim=shape.width)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # PEFT warns that a local backbone has no hub card
        wrapped = get_peft_model(network.backbone, config)
        with torch.no_grad():
            wrapped.prompt_encoder["default"].embedding.weight.copy_(prompt)
        wrapped.save_pretrained(folder)
        weights = (Path(folder) / ADAPTER).read_bytes()
        values = json.loads((Path(folder) / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    network.backbone.requires_grad_(False)
    return weights, values
