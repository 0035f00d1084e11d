"""Models made from others: their files sealed again with a change, as a challenger may differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from ptec_training.data.dataset import read_split
from ptec_training.data.folder import read_extract_record
from ptec_training.data.provenance import seen_in
from ptec_udf.model.artifact import ADAPTER, HEAD, LORA_A, LORA_B, MANIFEST, METRICS, SEEN, SUMS, load_artifact, seal
from ptec_udf.model.backbone import resolve
from ptec_udf.model.manifest import LoraSpec


def variant(
    made: Path,
    out: Path,
    *,
    head: Mapping[str, torch.Tensor] | None = None,
    adapter: Mapping[str, torch.Tensor] | None = None,
    seen: Any = None,
    metrics: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write an artifact again, with changes.

    Args:
        made: its folder.
        out: folder of the new one.
        head: another head.
        adapter: another prompt or LoRA.
        seen: another record of what was learned from; False removes it.
        metrics: further metrics.
        changes: other fields of the manifest.
    """
    before = load_artifact(made)
    files = dict(before.files)
    if head is not None:
        files[HEAD] = save(dict(head))
    if adapter is not None:
        files[ADAPTER] = save(dict(adapter))
    if seen is False:
        files.pop(SEEN, None)
    elif seen is not None:
        files[SEEN] = save(seen)
    if metrics is not None:
        files[METRICS] = json.dumps({**before.metrics, **metrics}).encode()
    files = seal(before.manifest.model_copy(update=changes), files)
    out.mkdir()
    for name, data in files.items():
        (out / name).write_bytes(data)
    return out


def shuffled(made: Path, out: Path) -> Path:
    """Write a worse model: each label is given for what another label should be given for."""
    head = load(load_artifact(made).files[HEAD])
    return variant(made, out, head={name: value.roll(1, dims=0).contiguous() for name, value in head.items()})


def with_lora(made: Path, out: Path, layer: str = "encoder.layer.0.attention.self.query") -> Path:
    """Write a model with changes of a layer, of width 32, in place of the prompt."""
    draw, name = torch.Generator().manual_seed(3), f"base_model.model.{layer}"
    shapes = {f"{name}{LORA_A}": (2, 32), f"{name}{LORA_B}": (32, 2)}
    adapter = {name: torch.randn(*shape, generator=draw) for name, shape in shapes.items()}
    return variant(made, out, adapter=adapter, prompt=None, lora=LoraSpec(rank=2, alpha=2))


def equal(made: Path, out: Path) -> Path:
    """Write a model of another id with exactly the same scores."""
    return variant(made, out, max_tokens=load_artifact(made).manifest.max_tokens + 1)


def reseal(folder: Path) -> None:
    """Record the backbone's hash again, after a file of it was changed."""
    loaded = load_artifact(folder)
    named = loaded.manifest.backbone
    assert named is not None
    backbone = named.model_copy(update={"content_hash": resolve(named.name).content_hash()})
    sealed = seal(loaded.manifest.model_copy(update={"backbone": backbone}), loaded.files)
    for name in (MANIFEST, SUMS):
        (folder / name).write_bytes(sealed[name])


def with_thresholds(made: Path, out: Path, thresholds: Mapping[str, float]) -> Path:
    """Write a model with other thresholds of some labels; its logits are the same."""
    labels = load_artifact(made).manifest.labels
    changed = [one.model_copy(update={"threshold": thresholds.get(one.name, one.threshold)}) for one in labels]
    return variant(made, out, labels=changed)


def seen_of(extract: Path, split: str = "train") -> dict[str, torch.Tensor]:
    """Return the hashes that a model records which was trained on a split."""
    return seen_in(read_extract_record(extract), [read_split(extract, split)])
