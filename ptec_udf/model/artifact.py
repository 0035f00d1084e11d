"""A trained model without its backbone: a folder of files, or the same in memory. Imports no torch.

========================== ==========================================================================================
manifest.json              what the model is and how its parts are used, see manifest.py
adapter_config.json        PEFT's file; only with a prompt or LoRA
adapter_model.safetensors  PEFT's file: ``prompt_embeddings`` (then ``prompt_embeddings.1`` ...) or LoRA's matrices
head.safetensors           ``weight`` (n_labels, width or n_terms) and ``bias`` (n_labels,), float32; members stacked in
                           the first dimension; with label attention ``queries`` like ``weight``; with TF-IDF added to a
                           backbone ``tfidf.weight`` (n_labels, n_terms) and ``tfidf.bias``
tfidf.json                 the terms of TF-IDF, see tfidf.py; only with TF-IDF
metrics.json               what training measured
seen.safetensors           hashes of the rows that training used, see training/data/provenance.py; optional
SHA256SUMS                 a hash of each other file, as ``sha256sum`` writes it; a changed byte is refused at load
========================== ==========================================================================================

No file is a pickle. ``model_id`` is a hash of everything that decides a score, so equal trainings have equal ids.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from ptec_udf.errors import ArtifactError
from ptec_udf.model.manifest import Manifest
from ptec_udf.model.tfidf import Tfidf, TfidfHead
from ptec_udf.section import messages_of

MANIFEST = "manifest.json"
METRICS = "metrics.json"
ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
HEAD = "head.safetensors"
TFIDF = "tfidf.json"
SEEN = "seen.safetensors"
SUMS = "SHA256SUMS"
CARD = "README.md"  # the model card of a hub, which no hash covers

ALL_FILES = (MANIFEST, METRICS, ADAPTER, ADAPTER_CONFIG, HEAD, TFIDF, SEEN, SUMS)
SCORING_FILES = (MANIFEST, ADAPTER, HEAD, TFIDF)  # they decide a score

PROMPT = "prompt_embeddings"  # PEFT's name of the tensor
LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"  # ends of PEFT's names of the two matrices of a layer
TFIDF_WEIGHT, TFIDF_BIAS = "tfidf.weight", "tfidf.bias"

Array = NDArray[np.float32]

# How and where a model was made; names may be local paths, the hashes identify their content.
_NOT_IN_MODEL_ID: dict[str, Any] = {
    **dict.fromkeys(("created", "packages"), True),
    "backbone": {"name"},
    "extract": {"source", "source_id", "version"},
}

_NOT_IN_NETWORK_ID: dict[str, Any] = {
    **_NOT_IN_MODEL_ID,
    **dict.fromkeys(("threshold_logit", "extract"), True),
    "labels": {"__all__": {"threshold", "scale", "offset", "training_positives"}},
}


class Member(NamedTuple):
    """One of the networks whose logits are averaged; for the shapes see the module's table."""

    prompt: Array | None
    weight: Array
    bias: Array
    queries: Array | None


@dataclass(frozen=True)
class Artifact:
    """A checked artifact in memory: its manifest, tensors and terms, the bytes of their files, and their folder."""

    manifest: Manifest
    adapter: Mapping[str, Array]
    head: Mapping[str, Array]
    tfidf: Tfidf | None
    files: Mapping[str, bytes]
    folder: Path | None = None

    @cached_property
    def model_id(self) -> str:
        """A hash of everything that decides a score."""
        return self._content_id(_NOT_IN_MODEL_ID)

    @cached_property
    def network_id(self) -> str:
        """A hash of what decides logits; models that differ in calibration and thresholds only share it."""
        return self._content_id(_NOT_IN_NETWORK_ID)

    def _content_id(self, excluded: dict[str, Any]) -> str:
        content = self.manifest.model_dump(mode="json", exclude=excluded, exclude_none=True)
        content["tensors"] = [_sha256(self.files[name]) for name in (ADAPTER, HEAD, TFIDF) if name in self.files]
        return _sha256(json.dumps(content, sort_keys=True).encode())[:32]

    def logits_id(self, dtype: str, engine: str = "torch") -> str:
        """Return a hash of what decides a text's logits: the network and, with a backbone, dtype and engine."""
        return _sha256("\n".join([self.network_id, *([dtype, engine] if self.manifest.backbone else [])]).encode())[:32]

    @property
    def members(self) -> list[Member]:
        """Prompt and head of each member; most models have one."""
        names = prompt_names(self.manifest.members or 1)
        heads = {name: part if self.manifest.members else part[None] for name, part in self.head.items()}
        prompts, queries = map(self.adapter.get, names), heads.get("queries", [None] * len(names))
        return [Member(*of) for of in zip(prompts, heads["weight"], heads["bias"], queries, strict=True)]

    @property
    def metrics(self) -> dict[str, Any]:
        """What training measured; empty on an executor, which does not get the file."""
        return json.loads(self.files.get(METRICS, b"{}"))

    @property
    def scoring_files(self) -> dict[str, bytes]:
        """The bytes that executors need."""
        return {name: self.files[name] for name in (SUMS, *SCORING_FILES) if name in self.files}

    def build_tfidf_head(self) -> TfidfHead:
        """Build the linear layer on TF-IDF terms; the model must have TF-IDF."""
        assert self.tfidf is not None
        names = (TFIDF_WEIGHT, TFIDF_BIAS) if self.manifest.backbone else ("weight", "bias")
        return TfidfHead(self.tfidf, *(self.head[name] for name in names))


def load_artifact(folder: str | Path, model_id: str | None = None) -> Artifact:
    """Read and check an artifact folder; raise ArtifactError if it is broken, or not ``model_id``, if set."""
    folder = Path(folder)
    files = {name: (folder / name).read_bytes() for name in ALL_FILES if (folder / name).is_file()}
    artifact = replace(read_artifact(files, str(folder), needed=ALL_FILES), folder=folder.absolute())
    if model_id not in (None, artifact.model_id):
        raise ArtifactError(f"{folder}: must be model {model_id}, was {artifact.model_id}; register the former again")
    return artifact


def read_artifact(
    files: Mapping[str, bytes], where: str = "artifact", needed: Sequence[str] = SCORING_FILES
) -> Artifact:
    """Check the bytes of an artifact's files and parse them; ``where`` names the artifact in errors.

    Raise ArtifactError naming each missing or changed file, an unknown format, or tensors of another shape.
    """
    sums = read_sums(files.get(SUMS, b""), where)
    errors = [f"{where}/{name}: file of {SUMS} is missing" for name in sums if name not in files and name in needed]
    changed = [name for name, data in files.items() if name != SUMS and _sha256(data) != sums.get(name)]
    if errors := [*errors, *(f"{where}/{name}: does not fit {SUMS}" for name in changed)]:
        raise ArtifactError([f"{error}; copy the artifact again" for error in errors])
    manifest = _read_manifest(files[MANIFEST], f"{where}/{MANIFEST}")
    names = {MANIFEST, HEAD, METRICS, *([TFIDF] if manifest.tfidf else [])}
    names |= {ADAPTER, ADAPTER_CONFIG} if manifest.has_adapter else set()
    if sums.keys() - {SEEN} != names:
        raise ArtifactError(f"{where}/{SUMS}: must name {', '.join(sorted(names))}; copy the artifact again")
    try:
        head, adapter = load(files[HEAD]), load(files[ADAPTER]) if manifest.has_adapter else {}
        tfidf = Tfidf.from_json(files[TFIDF], manifest.tfidf) if manifest.tfidf else None
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise ArtifactError(f"{where}: must have float32 safetensors, and counts in {TFIDF}; train again") from None
    if set(adapter) != _adapter_names(manifest, adapter):
        raise ArtifactError(f"{where}/{ADAPTER}: must contain the prompt or LoRA of {MANIFEST}; train again")
    head_names = {"weight", "bias", *(["queries"] if manifest.pooling == "label_attention" else [])}
    head_names |= {TFIDF_WEIGHT, TFIDF_BIAS} if manifest.tfidf and manifest.backbone else set()
    if set(head) != head_names or head["bias"].shape[-1] != len(manifest.labels):
        raise ArtifactError(f"{where}/{HEAD}: must contain the head of {MANIFEST}; train again")
    return Artifact(manifest, adapter, head, tfidf, dict(files))


def seal(manifest: Manifest, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return all files of an artifact: those given, the manifest and the hashes."""
    sealed = {**files, MANIFEST: (manifest.model_dump_json(indent=1, exclude_none=True) + "\n").encode()}
    hashes = (f"{_sha256(data)}  {name}\n" for name, data in sorted(sealed.items()) if name != SUMS)
    return sealed | {SUMS: "".join(hashes).encode()}


def prompt_names(n_members: int) -> list[str]:
    """Return the tensor names of the members' prompts; PEFT reads the first."""
    return [PROMPT, *(f"{PROMPT}.{at}" for at in range(1, n_members))]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_sums(data: bytes, where: str) -> dict[str, str]:
    """Parse the hashes by file name; a name has no folder. Raise ArtifactError for lines of another form."""
    text = data.decode("ascii", "replace")
    if not re.fullmatch(r"([0-9a-f]{64}  [\w.]+\n)+", text, re.ASCII):
        raise ArtifactError(f"{where}/{SUMS}: must have the lines of sha256sum; use the folder of an artifact")
    return {name: digest for digest, name in (line.split("  ") for line in text.split("\n")[:-1])}


def _read_manifest(data: bytes, path: str) -> Manifest:
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as failure:
        found = [(error["loc"], text) for error in failure.errors() for text in messages_of(error)]
    remedy = "use the release that wrote it, or train again"
    raise ArtifactError([f"{path}: {'.'.join(map(str, at))}: {text}; {remedy}" for at, text in found])


def _adapter_names(manifest: Manifest, adapter: Mapping[str, Array]) -> set[str]:
    """Return the names that the tensors must have: the prompts, or a pair of LoRA matrices for each layer."""
    if manifest.lora is None:
        return set(prompt_names(manifest.members or 1)) if manifest.prompt else set()
    layers = {name.removesuffix(LORA_A).removesuffix(LORA_B) for name in adapter} or {""}
    return {layer + end for layer in layers for end in (LORA_A, LORA_B)}
