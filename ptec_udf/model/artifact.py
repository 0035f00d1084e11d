"""The artifact: a folder that holds all of a trained model but its backbone.

========================== =====================================================================
manifest.json              what it is and how to use it: see manifest.py
adapter_config.json        PEFT's own file; only with a prompt or LoRA
adapter_model.safetensors  PEFT's own file: the soft prompt, under the name ``prompt_embeddings``, or LoRA's matrices;
                           only with one of them; prompts of further members as ``prompt_embeddings.1`` and so on
terms.json                 the terms of TF-IDF, see terms.py; only of a model that has them, in place of a backbone or
                           beside one
head.safetensors           ``weight`` (n_labels, width or number of terms) and ``bias`` (n_labels,), float32; of several
                           members stacked, their number the first dimension. With label attention, ``queries``
                           (n_labels, width), of members likewise. With terms beside a backbone, ``terms.weight``
                           (n_labels, number of terms) and ``terms.bias`` (n_labels,), whose logits are added
metrics.json               what training measured
choice.safetensors         the same tensors of the first training, which has not seen tune; only if a
                           second one followed. A later training can start from them
seen.safetensors           hashes of the rows that were learned from, which must not judge the model: see
                           training/extract/seen.py. Artifacts that were made before there was this file lack it
========================== =====================================================================

Nothing in it is a pickle. ``model_id`` is a hash of everything that decides a score, so equal
trainings have equal ids. ``checksum`` covers the whole manifest, which holds a hash of every other
file: a changed byte is refused at load, with the file's name.

To raise FORMAT_VERSION: (1) change the classes and this table; (2) raise the number; (3) keep
reading the previous format by a function ``_from_version_N`` that turns its manifest into the new
one; (4) commit a tiny artifact of the old format under tests/data and a test that loads it;
(5) say it in CHANGELOG.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load

from ptec_udf.errors import ArtifactError
from ptec_udf.model.lora import FIRST, SECOND
from ptec_udf.model.manifest import Manifest
from ptec_udf.model.terms import Terms

FORMAT_VERSION = 1

MANIFEST = "manifest.json"
METRICS = "metrics.json"
ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
HEAD = "head.safetensors"
TERMS = "terms.json"
PROMPT = "prompt_embeddings"  # PEFT's name of the tensor
TERMS_WEIGHT, TERMS_BIAS = "terms.weight", "terms.bias"

# Only a later training reads it; not every artifact has it.
CHOICE = "choice.safetensors"
# Only a comparison reads it.
SEEN = "seen.safetensors"

# What decides a score beside the manifest, and with it what an executor is sent, as far as a model has it.
_DECIDING = (ADAPTER, HEAD, TERMS)
OPTIONAL_FILES = (CHOICE, SEEN)

# Facts about how and where a model came to be and not about what it scores: they leave model_id alone. Names may be
# local paths; the hashes beside them say what was there.
_NOT_IN_MODEL_ID: dict[str, Any] = {
    **dict.fromkeys(("model_id", "checksum", "created", "packages", "files"), True),
    "backbone": {"name"},
    "extract": {"source", "source_id", "version"},
}

# What is made of logits, and what was learned from: with the above, all that leaves a text's logits alone.
_NOT_IN_LOGITS_ID: dict[str, Any] = {
    **_NOT_IN_MODEL_ID,
    **dict.fromkeys(("calibrator", "threshold_logit", "curve", "extract"), True),
    "labels": {"__all__": {"threshold", "scale", "offset", "training_positives"}},
}


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
        terms: what a text is to a model without a backbone, or what is seen beside it.
        terms_head: weight, *Shape:* ``(n_labels, n_terms)``, and bias of what is seen beside a backbone.
        files: the bytes it was read from, by file name.
    """

    manifest: Manifest
    adapter: Mapping[str, torch.Tensor]
    head_weight: torch.Tensor
    head_bias: torch.Tensor
    head_queries: torch.Tensor | None
    terms: Terms | None
    files: Mapping[str, bytes]
    terms_head: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def model_id(self) -> str:
        """The content hash that names the model everywhere."""
        return self.manifest.model_id

    @property
    def logits_id(self) -> str:
        """A content hash that models share which give a text the same logits, whatever they make of them."""
        return _content_id(self.manifest, _NOT_IN_LOGITS_ID)

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
        return {name: self.files[name] for name in (MANIFEST, *_DECIDING) if name in self.files}


def files_of(manifest: Manifest) -> set[str]:
    """Name the files that must lie beside a manifest."""
    adapter = {ADAPTER, ADAPTER_CONFIG} if manifest.adapts else set()
    return {HEAD, METRICS} | adapter | ({TERMS} if manifest.terms else set())


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
    names = [MANIFEST, *_read_manifest((folder / MANIFEST).read_bytes(), str(folder)).files]
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
    manifest = _read_manifest(files[MANIFEST], where)
    changed = [
        f"{where}/{name}: file was changed after the artifact was made (its hash differs); copy the artifact anew"
        for name, expected in manifest.files.items()
        if name in files and _sha256(files[name]) != expected
    ]
    if changed:
        raise ArtifactError(changed)
    try:
        head, adapter = load(files[HEAD]), load(files[ADAPTER]) if manifest.adapts else {}
    except SafetensorError:
        raise ArtifactError(f"{where}: must hold its tensors as safetensors; train again") from None
    if not _fits(manifest, adapter):
        raise ArtifactError(f"{where}/{ADAPTER}: must hold what {MANIFEST} says, a prompt or LoRA; train again")
    n_members = [manifest.members] if manifest.members else []
    if not [*head["bias"].shape] == [*head["weight"].shape[:-1]] == [*n_members, len(manifest.labels)]:
        raise ArtifactError(f"{where}/{HEAD}: must hold a head of all labels for each member; train again")
    terms = Terms.from_json(files[TERMS], manifest.terms) if manifest.terms else None
    of_terms = TERMS_WEIGHT if manifest.backbone else "weight"
    if terms is not None and (of_terms not in head or len(terms) != head[of_terms].shape[1]):
        raise ArtifactError(f"{where}/{HEAD}: must hold a weight for each term of {TERMS}; train again")
    terms_head = (head[TERMS_WEIGHT], head[TERMS_BIAS]) if terms is not None and manifest.backbone else None
    queries = head.get("queries")
    if (None if queries is None else queries.shape) != (head["weight"].shape if manifest.attends else None):
        raise ArtifactError(f"{where}/{HEAD}: must hold a query of each label with label_attention; train again")
    return Artifact(manifest, adapter, head["weight"], head["bias"], queries, terms, dict(files), terms_head)


def prompt_names(n_members: int) -> list[str]:
    """Name the prompts of so many members; PEFT knows the first."""
    return [PROMPT, *(f"{PROMPT}.{at}" for at in range(1, n_members))]


def seal(manifest: Manifest, files: Mapping[str, bytes]) -> tuple[Manifest, bytes]:
    """Fill in hashes, model_id and checksum.

    Args:
        manifest: with everything else filled in.
        files: bytes of all other files of the artifact, by name.

    Returns:
        The sealed manifest and the bytes of manifest.json.
    """
    sealed = manifest.model_copy(update={"files": {name: _sha256(data) for name, data in sorted(files.items())}})
    sealed = sealed.model_copy(update={"model_id": _model_id(sealed)})
    sealed = sealed.model_copy(update={"checksum": _checksum(sealed)})
    return sealed, _canonical(sealed)


def _read_manifest(data: bytes, where: str) -> Manifest:
    """Parse and check manifest.json."""
    place = f"{where}/{MANIFEST}"
    try:
        values = json.loads(data)
        version = values.get("format_version")
    except (ValueError, AttributeError):
        raise ArtifactError(f"{place}: must be a JSON object; copy the artifact anew") from None
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"{place}: format_version must be {FORMAT_VERSION}, was: {version!r}; "
            "use the release that wrote it, or train again"
        )
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        raise ArtifactError(
            [f"{place}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        ) from None
    if data != _canonical(manifest) or manifest.checksum != _checksum(manifest):
        raise ArtifactError(f"{place}: file was changed after the artifact was made (its checksum differs)")
    # The id is a name of folders and rows, so it must be what we would give, whoever wrote the file.
    if set(manifest.files) - {*OPTIONAL_FILES} != files_of(manifest) or manifest.model_id != _model_id(manifest):
        raise ArtifactError(f"{place}: file was changed after the artifact was made (model_id and files do not fit)")
    return manifest


def _fits(manifest: Manifest, adapter: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether tensors are those of the manifest's prompt, or LoRA's in pairs, or none where it has neither."""
    if manifest.lora is None:
        return set(adapter) == (set(prompt_names(manifest.members or 1)) if manifest.prompt else set())
    first = {name.removesuffix(FIRST) for name in adapter if name.endswith(FIRST)}
    ranks = {len(adapter[name + FIRST]) for name in first}
    return ranks == {manifest.lora.rank} and set(adapter) == {name + end for name in first for end in (FIRST, SECOND)}


def _model_id(manifest: Manifest) -> str:
    """Hash what decides a score."""
    return _content_id(manifest, _NOT_IN_MODEL_ID)


def _content_id(manifest: Manifest, left_out: dict[str, Any]) -> str:
    """Hash the manifest's content, but for some of it, and the files of weights and terms."""
    content = manifest.model_dump(mode="json", exclude=left_out, exclude_none=True)
    content["tensors"] = [manifest.files[name] for name in _DECIDING if name in manifest.files]
    return _sha256(json.dumps(content, sort_keys=True).encode())[:32]


def _checksum(manifest: Manifest) -> str:
    """Hash the whole manifest but the checksum itself."""
    return _sha256(_canonical(manifest.model_copy(update={"checksum": ""})))


def _canonical(manifest: Manifest) -> bytes:
    """Write a manifest in the one form that is accepted."""
    values = manifest.model_dump(mode="json", exclude_none=True)
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
