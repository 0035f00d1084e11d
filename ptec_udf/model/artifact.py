"""The artifact: a folder that holds all of a trained PTEC model but its backbone.

========================== =====================================================================
manifest.json              what it is and how to use it: see manifest.py
adapter_config.json        PEFT's own file
adapter_model.safetensors  PEFT's own file: the soft prompt, under the name ``prompt_embeddings``, or LoRA's matrices
head.safetensors           ``weight`` (n_labels, width) and ``bias`` (n_labels,), float32
metrics.json               what training measured
choice.safetensors         the same tensors of the first training, which has not seen tune; only if a
                           second one followed. A later training can start from them
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
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import load

from ptec_udf.errors import ArtifactError
from ptec_udf.model.lora import FIRST, SECOND
from ptec_udf.model.manifest import Manifest

FORMAT_VERSION = 1

MANIFEST = "manifest.json"
METRICS = "metrics.json"
ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
HEAD = "head.safetensors"
PROMPT = "prompt_embeddings"  # PEFT's name of the tensor

# Only a later training reads it; not every artifact has it.
CHOICE = "choice.safetensors"

# What an executor needs; the driver sends just these.
SCORING_FILES = (MANIFEST, ADAPTER, HEAD)
ALL_FILES = (MANIFEST, ADAPTER, HEAD, ADAPTER_CONFIG, METRICS)

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
    **dict.fromkeys(("calibrator", "threshold_logit", "extract"), True),
    "labels": {"__all__": {"threshold", "scale", "offset", "training_positives"}},
}


@dataclass(frozen=True)
class Artifact:
    """A checked artifact in memory.

    Attributes:
        manifest: what it is.
        adapter: what was trained on the backbone, float32, under PEFT's names.
        head_weight: *Shape:* ``(n_labels, width)``, float32.
        head_bias: *Shape:* ``(n_labels,)``, float32.
        files: the bytes it was read from, by file name.
    """

    manifest: Manifest
    adapter: Mapping[str, torch.Tensor]
    head_weight: torch.Tensor
    head_bias: torch.Tensor
    files: Mapping[str, bytes]

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
        """The soft prompt, *Shape:* ``(n_prompt, ...)`` in PEFT's layout; None where LoRA was trained."""
        return self.adapter.get(PROMPT)

    @property
    def metrics(self) -> dict[str, Any]:
        """What training measured; empty on an executor, which is not sent the file."""
        return json.loads(self.files[METRICS]) if METRICS in self.files else {}

    @property
    def scoring_files(self) -> dict[str, bytes]:
        """The bytes that executors need."""
        return {name: self.files[name] for name in SCORING_FILES}


def load_artifact(folder: str | Path, model_id: str | None = None) -> Artifact:
    """Read and check an artifact folder.

    Args:
        folder: where it lies.
        model_id: the model that it must be; None takes any.

    Raises:
        ArtifactError: naming every file that is missing or was changed, an unknown format, or another model.
    """
    folder = Path(folder)
    missing = [name for name in ALL_FILES if not (folder / name).is_file()]
    if missing:
        raise ArtifactError([f"{folder / name}: file of the artifact is missing" for name in missing])
    names = [*ALL_FILES, *([CHOICE] if (folder / CHOICE).is_file() else [])]
    artifact = read_artifact({name: (folder / name).read_bytes() for name in names}, str(folder))
    if CHOICE in artifact.manifest.files and CHOICE not in names:
        raise ArtifactError(f"{folder / CHOICE}: file of the artifact is missing")
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
    head, adapter = load(files[HEAD]), load(files[ADAPTER])
    if not _fits(manifest, adapter):
        raise ArtifactError(f"{where}/{ADAPTER}: must hold what {MANIFEST} says, a prompt or LoRA; train again")
    return Artifact(manifest, adapter, head["weight"], head["bias"], dict(files))


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
    if set(manifest.files) - {CHOICE} != set(ALL_FILES) - {MANIFEST} or manifest.model_id != _model_id(manifest):
        raise ArtifactError(f"{place}: file was changed after the artifact was made (model_id and files do not fit)")
    return manifest


def _fits(manifest: Manifest, adapter: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether tensors are those of the manifest's prompt, or LoRA's in pairs."""
    if manifest.lora is None:
        return set(adapter) == {PROMPT}
    first = {name.removesuffix(FIRST) for name in adapter if name.endswith(FIRST)}
    ranks = {len(adapter[name + FIRST]) for name in first}
    return ranks == {manifest.lora.rank} and set(adapter) == {name + end for name in first for end in (FIRST, SECOND)}


def _model_id(manifest: Manifest) -> str:
    """Hash what decides a score."""
    return _content_id(manifest, _NOT_IN_MODEL_ID)


def _content_id(manifest: Manifest, left_out: dict[str, Any]) -> str:
    """Hash the manifest's content, but for some of it, and the two tensor files."""
    content = manifest.model_dump(mode="json", exclude=left_out, exclude_none=True)
    content["tensors"] = [manifest.files[ADAPTER], manifest.files[HEAD]]
    return _sha256(json.dumps(content, sort_keys=True).encode())[:32]


def _checksum(manifest: Manifest) -> str:
    """Hash the whole manifest but the checksum itself."""
    return _sha256(_canonical(manifest.model_copy(update={"checksum": ""})))


def _canonical(manifest: Manifest) -> bytes:
    """Write a manifest in the one form that is accepted."""
    return (
        json.dumps(manifest.model_dump(mode="json", exclude_none=True), indent=1, ensure_ascii=False) + "\n"
    ).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
