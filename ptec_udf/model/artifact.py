"""A checked artifact in memory; for its format see artifact_format.py. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from ptec_udf.errors import ArtifactError
from ptec_udf.model.artifact_format import (
    ADAPTER,
    HEAD,
    MANIFEST,
    METRICS,
    PROMPT,
    SCORING_FILES,
    TFIDF,
    TFIDF_BIAS,
    TFIDF_WEIGHT,
    logits_id,
    network_id,
    read_manifest,
    sha256,
)
from ptec_udf.model.manifest import Manifest
from ptec_udf.model.tfidf import Tfidf, TfidfHead

LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"
"""Ends of PEFT's names of the two matrices of a layer."""

Array = NDArray[np.float32]


class Member(NamedTuple):
    """One of the networks whose logits are averaged; for the shapes see ``Artifact``."""

    prompt: Array | None
    weight: Array
    bias: Array
    queries: Array | None


@dataclass(frozen=True)
class Artifact:
    """A checked artifact in memory.

    Attributes:
        manifest: what the model is.
        adapter: the trained prompt or LoRA matrices, float32, under PEFT's names.
        head: tensors of the head: ``weight``, *Shape:* ``(n_labels, width)``, with several members
            ``(n_members, n_labels, width)``; ``bias``, *Shape:* ``(n_labels,)``; see artifact_format.py.
        tfidf: the terms of TF-IDF; None without it.
        files: the bytes it was read from, by file name.
    """

    manifest: Manifest
    adapter: Mapping[str, Array]
    head: Mapping[str, Array]
    tfidf: Tfidf | None
    files: Mapping[str, bytes]

    @property
    def model_id(self) -> str:
        """The content hash that names the model."""
        return self.manifest.model_id

    @property
    def network_id(self) -> str:
        """A content hash that recalibrated copies of a model share."""
        return network_id(self.manifest)

    def logits_id(self, dtype: str, engine: str = "torch") -> str:
        """Return a hash of network, dtype and engine: texts have equal logits if it is equal."""
        return logits_id(self.manifest, dtype, engine)

    @property
    def prompt(self) -> Array | None:
        """The (first) soft prompt in PEFT's layout, *Shape:* ``(n_prompt, ...)``; None without one."""
        return self.adapter.get(PROMPT)

    @property
    def members(self) -> list[Member]:
        """Prompt and head of each member; most models have one."""
        weight, bias, queries = self.head["weight"], self.head["bias"], self.head.get("queries")
        if self.manifest.members is None:
            return [Member(self.prompt, weight, bias, queries)]
        prompts = [self.adapter[name] for name in prompt_names(self.manifest.members)]
        return [
            Member(prompt, weight[at], bias[at], None if queries is None else queries[at])
            for at, prompt in enumerate(prompts)
        ]

    @property
    def metrics(self) -> dict[str, Any]:
        """What training measured; empty on an executor, which does not get the file."""
        return json.loads(self.files[METRICS]) if METRICS in self.files else {}

    @property
    def scoring_files(self) -> dict[str, bytes]:
        """The bytes that executors need."""
        return {name: self.files[name] for name in (MANIFEST, *SCORING_FILES) if name in self.files}

    def build_tfidf_head(self) -> TfidfHead:
        """Build the linear layer on TF-IDF terms; the model must have TF-IDF."""
        assert self.tfidf is not None
        return TfidfHead(self.tfidf, *(self.head[name] for name in _tfidf_tensors(self.manifest)))


def load_artifact(folder: str | Path, model_id: str | None = None) -> Artifact:
    """Read and check an artifact folder; a ``model_id`` that is given must match.

    Raises:
        ArtifactError: naming each missing or changed file, an unknown format, or another model.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(f"{folder / MANIFEST}: file of the artifact is missing")
    names = [MANIFEST, *read_manifest((folder / MANIFEST).read_bytes(), str(folder)).files]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ArtifactError([f"{folder / name}: file of the artifact is missing" for name in missing])
    artifact = read_artifact({name: (folder / name).read_bytes() for name in names}, str(folder))
    if model_id not in (None, artifact.model_id):
        raise ArtifactError(
            f"{folder}: must be model {model_id}, was {artifact.model_id}; register the former from its folder again"
        )
    return artifact


def read_artifact(files: Mapping[str, bytes], where: str = "artifact") -> Artifact:
    """Check the bytes of an artifact's files and parse them; ``where`` names the artifact in errors.

    Raises:
        ArtifactError: naming each changed file, an unknown format, or tensors that do not fit the manifest.
    """
    manifest = read_manifest(files[MANIFEST], where)
    changed = [
        f"{where}/{name}: file was changed after the artifact was made (its hash differs); copy the artifact again"
        for name, expected in manifest.files.items()
        if name in files and sha256(files[name]) != expected
    ]
    if changed:
        raise ArtifactError(changed)
    try:
        head, adapter = load(files[HEAD]), load(files[ADAPTER]) if manifest.has_adapter else {}
    except (SafetensorError, KeyError, TypeError):  # the last two: a dtype that NumPy lacks
        raise ArtifactError(f"{where}: tensors must be float32 safetensors; train again") from None
    tfidf = _read_tfidf(files[TFIDF], manifest, where) if manifest.tfidf else None
    if not _adapter_fits(manifest, adapter):
        raise ArtifactError(f"{where}/{ADAPTER}: must contain the prompt or LoRA of {MANIFEST}; train again")
    if errors := _head_errors(manifest, head, 0 if tfidf is None else len(tfidf)):
        raise ArtifactError([f"{where}/{HEAD}: {error}; train again" for error in errors])
    return Artifact(manifest, adapter, head, tfidf, dict(files))


def prompt_names(n_members: int) -> list[str]:
    """Return the tensor names of the members' prompts; PEFT reads the first."""
    return [PROMPT, *(f"{PROMPT}.{at}" for at in range(1, n_members))]


def _tfidf_tensors(manifest: Manifest) -> tuple[str, str]:
    return (TFIDF_WEIGHT, TFIDF_BIAS) if manifest.backbone else ("weight", "bias")


def _read_tfidf(data: bytes, manifest: Manifest, where: str) -> Tfidf:
    assert manifest.tfidf is not None
    try:
        return Tfidf.from_json(data, manifest.tfidf)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ArtifactError(f"{where}/{TFIDF}: must contain terms and their document counts; train again") from None


def _adapter_fits(manifest: Manifest, adapter: Mapping[str, Array]) -> bool:
    """Return whether the tensors are the manifest's prompts, or pairs of LoRA matrices of its rank."""
    if manifest.lora is None:
        return set(adapter) == (set(prompt_names(manifest.members or 1)) if manifest.prompt else set())
    layers = {name.removesuffix(LORA_A) for name in adapter if name.endswith(LORA_A)}
    ranks = {len(adapter[layer + LORA_A]) for layer in layers}
    return ranks == {manifest.lora.rank} and set(adapter) == {
        layer + end for layer in layers for end in (LORA_A, LORA_B)
    }


def _head_errors(manifest: Manifest, head: Mapping[str, Array], n_terms: int) -> list[str]:
    """List tensors of the head that are missing or have another shape than the manifest's."""
    n_labels = len(manifest.labels)
    leading = (*([manifest.members] if manifest.members else []), n_labels)
    weight, bias = head.get("weight"), head.get("bias")
    if weight is None or bias is None or not bias.shape == weight.shape[:-1] == leading:
        return ["must contain weight and bias of all labels, for each member"]
    errors = []
    queries = head.get("queries")
    if (None if queries is None else queries.shape) != (weight.shape if manifest.has_label_attention else None):
        errors.append("must contain queries of the weight's shape with label_attention, and only then")
    if manifest.tfidf:
        shapes = [head[name].shape for name in _tfidf_tensors(manifest) if name in head]
        if shapes != [(n_labels, n_terms), (n_labels,)]:
            errors.append(f"must contain a weight for each term of {TFIDF}")
    return errors
