"""A checked artifact in memory, from its folder or its files' bytes; for their form see artifact_format.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from ptec_udf.errors import ArtifactError
from ptec_udf.model.artifact_format import (
    ADAPTER,
    DECIDING,
    HEAD,
    MANIFEST,
    METRICS,
    PROMPT,
    TFIDF,
    TFIDF_BIAS,
    TFIDF_WEIGHT,
    logits_id,
    read_manifest,
    sha256,
)
from ptec_udf.model.lora import FIRST, SECOND
from ptec_udf.model.manifest import Manifest, TfidfSpec
from ptec_udf.model.tfidf import Tfidf


class Member(NamedTuple):
    """One of the networks whose logits are averaged; for the shapes see ``Artifact``."""

    prompt: torch.Tensor | None
    weight: torch.Tensor
    bias: torch.Tensor
    queries: torch.Tensor | None


@dataclass(frozen=True)
class Artifact:
    """A checked artifact in memory.

    Attributes:
        manifest: what it is.
        adapter: what was trained on the backbone, float32, under PEFT's names.
        head_weight: *Shape:* ``(n_labels, width)``, or of several members ``(n_members, n_labels, width)``, float32;
            the width is the number of terms where there is no backbone.
        head_bias: *Shape:* ``(n_labels,)`` or ``(n_members, n_labels)``, float32.
        head_queries: of label attention, with the shape of ``head_weight``; None with other pooling.
        tfidf: what a text is to a model without a backbone, or what is seen beside it.
        tfidf_head: weight, *Shape:* ``(n_labels, n_terms)``, and bias of what is seen beside a backbone.
        files: the bytes it was read from, by file name.
    """

    manifest: Manifest
    adapter: Mapping[str, torch.Tensor]
    head_weight: torch.Tensor
    head_bias: torch.Tensor
    head_queries: torch.Tensor | None
    tfidf: Tfidf | None
    files: Mapping[str, bytes]
    tfidf_head: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def model_id(self) -> str:
        """The content hash that names the model everywhere."""
        return self.manifest.model_id

    @property
    def logits_id(self) -> str:
        """A content hash that models share which give a text the same logits, whatever they make of them."""
        return logits_id(self.manifest)

    @property
    def prompt(self) -> torch.Tensor | None:
        """The (first) soft prompt, *Shape:* ``(n_prompt, ...)`` in PEFT's layout; None where none was trained."""
        return self.adapter.get(PROMPT)

    @property
    def members(self) -> list[Member]:
        """What each member has of its own; there is one for most models."""
        if self.manifest.members is None:
            return [Member(self.prompt, self.head_weight, self.head_bias, self.head_queries)]
        prompts = [self.adapter[name] for name in prompt_names(self.manifest.members)]
        queries = [None] * len(prompts) if self.head_queries is None else self.head_queries
        return [Member(*parts) for parts in zip(prompts, self.head_weight, self.head_bias, queries, strict=True)]

    @property
    def metrics(self) -> dict[str, Any]:
        """What training measured; empty on an executor, which is not sent the file."""
        return json.loads(self.files[METRICS]) if METRICS in self.files else {}

    @property
    def scoring_files(self) -> dict[str, bytes]:
        """The bytes that executors need."""
        return {name: self.files[name] for name in (MANIFEST, *DECIDING) if name in self.files}


def load_artifact(folder: str | Path, model_id: str | None = None) -> Artifact:
    """Read and check an artifact folder.

    Args:
        folder: where it lies.
        model_id: the model that it must be; None takes any.

    Raises:
        ArtifactError: naming every file that is missing or was changed, an unknown format, or another model.
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
            f"{folder}: must hold model {model_id}, held {artifact.model_id}; register the former again from its folder"
        )
    return artifact


def read_artifact(files: Mapping[str, bytes], where: str = "artifact") -> Artifact:
    """Check the bytes of an artifact's files and make tensors of them.

    Raises:
        ArtifactError: naming every file that was changed, or an unknown format.
    """
    manifest = read_manifest(files[MANIFEST], where)
    changed = [
        f"{where}/{name}: file was changed after the artifact was made (its hash differs); copy the artifact anew"
        for name, expected in manifest.files.items()
        if name in files and sha256(files[name]) != expected
    ]
    if changed:
        raise ArtifactError(changed)
    try:
        head, adapter = load(files[HEAD]), load(files[ADAPTER]) if manifest.has_adapter else {}
    except SafetensorError:
        raise ArtifactError(f"{where}: must hold its tensors as safetensors; train again") from None
    if not _fits(manifest, adapter):
        raise ArtifactError(f"{where}/{ADAPTER}: must hold what {MANIFEST} says, a prompt or LoRA; train again")
    of_labels = [*([manifest.members] if manifest.members else []), len(manifest.labels)]
    is_there = {"weight", "bias"} <= head.keys()
    if not is_there or not [*head["bias"].shape] == [*head["weight"].shape[:-1]] == of_labels:
        raise ArtifactError(f"{where}/{HEAD}: must hold a head of all labels for each member; train again")
    terms, of_terms = None, (TFIDF_WEIGHT, TFIDF_BIAS) if manifest.backbone else ("weight", "bias")
    if manifest.tfidf is not None:
        terms = _terms(files[TFIDF], manifest.tfidf, where)
        shapes = [[*head[name].shape] for name in of_terms if name in head]
        if shapes != [[len(manifest.labels), len(terms)], [len(manifest.labels)]]:
            raise ArtifactError(f"{where}/{HEAD}: must hold a weight for each term of {TFIDF}; train again")
    tfidf_head = (head[TFIDF_WEIGHT], head[TFIDF_BIAS]) if terms is not None and manifest.backbone else None
    queries = head.get("queries")
    if (None if queries is None else queries.shape) != (head["weight"].shape if manifest.has_label_attention else None):
        raise ArtifactError(f"{where}/{HEAD}: must hold a query of each label with label_attention; train again")
    return Artifact(manifest, adapter, head["weight"], head["bias"], queries, terms, dict(files), tfidf_head)


def _terms(data: bytes, form: TfidfSpec, where: str) -> Tfidf:
    """Read the terms that an artifact counts.

    Raises:
        ArtifactError: where they are none.
    """
    try:
        return Tfidf.from_json(data, form)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ArtifactError(f"{where}/{TFIDF}: must hold terms and how many rows each stands in; train again") from None


def prompt_names(n_members: int) -> list[str]:
    """Name the prompts of so many members; PEFT knows the first."""
    return [PROMPT, *(f"{PROMPT}.{at}" for at in range(1, n_members))]


def _fits(manifest: Manifest, adapter: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether tensors are those of the manifest's prompt, or LoRA's in pairs, or none where it has neither."""
    if manifest.lora is None:
        return set(adapter) == (set(prompt_names(manifest.members or 1)) if manifest.prompt else set())
    first = {name.removesuffix(FIRST) for name in adapter if name.endswith(FIRST)}
    ranks = {len(adapter[name + FIRST]) for name in first}
    return ranks == {manifest.lora.rank} and set(adapter) == {name + end for name in first for end in (FIRST, SECOND)}
