"""The format of an artifact: a folder with everything of a trained model except its backbone.

========================== ==========================================================================================
manifest.json              what the model is and how its parts are used, see manifest.py
adapter_config.json        PEFT's file; only with a prompt or LoRA
adapter_model.safetensors  PEFT's file: the prompt as ``prompt_embeddings`` (of further members
                           ``prompt_embeddings.1`` and so on), or LoRA's matrices
head.safetensors           ``weight`` (n_labels, width or n_terms) and ``bias`` (n_labels,), float32; of several members
                           stacked in the first dimension. With label attention, ``queries`` like ``weight``. With
                           TF-IDF added to a backbone, ``tfidf.weight`` (n_labels, n_terms) and ``tfidf.bias``
tfidf.json                 the terms of TF-IDF, see tfidf.py; only with TF-IDF
metrics.json               what training measured
seen.safetensors           hashes of the rows that training used, see training/data/provenance.py
========================== ==========================================================================================

No file is a pickle. ``model_id`` is a hash of everything that decides a score, so equal trainings have equal ids.
``checksum`` covers the manifest, and the manifest has a hash of each other file: a changed byte is refused at load.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ptec_udf.errors import ArtifactError
from ptec_udf.model.manifest import Manifest
from ptec_udf.section import messages_of

FORMAT_VERSION = 1

MANIFEST = "manifest.json"
METRICS = "metrics.json"
ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
HEAD = "head.safetensors"
TFIDF = "tfidf.json"
SEEN = "seen.safetensors"
CHOICE = "choice.safetensors"

PROMPT = "prompt_embeddings"  # PEFT's name of the tensor
TFIDF_WEIGHT, TFIDF_BIAS = "tfidf.weight", "tfidf.bias"

SCORING_FILES = (ADAPTER, HEAD, TFIDF)
"""Files that decide a score, besides the manifest; executors get these."""

OPTIONAL_FILES = (CHOICE, SEEN)

# How and where a model was made; names may be local paths, the hashes identify their content.
_NOT_IN_MODEL_ID: dict[str, Any] = {
    **dict.fromkeys(("model_id", "checksum", "created", "packages", "files"), True),
    "backbone": {"name"},
    "extract": {"source", "source_id", "version"},
}

# Everything that is derived from logits.
_NOT_IN_NETWORK_ID: dict[str, Any] = {
    **_NOT_IN_MODEL_ID,
    **dict.fromkeys(("calibrator", "threshold_logit", "curve", "extract"), True),
    "labels": {"__all__": {"threshold", "scale", "offset", "training_positives"}},
}


def required_files(manifest: Manifest) -> set[str]:
    """Return the names of the files that must lie next to a manifest."""
    adapter = {ADAPTER, ADAPTER_CONFIG} if manifest.has_adapter else set()
    return {HEAD, METRICS} | adapter | ({TFIDF} if manifest.tfidf else set())


def seal(manifest: Manifest, files: Mapping[str, bytes]) -> tuple[Manifest, bytes]:
    """Fill in hashes, model_id and checksum.

    Args:
        manifest: with all other fields.
        files: bytes of all other files of the artifact, by name.

    Returns:
        The sealed manifest and the bytes of manifest.json.
    """
    sealed = manifest.model_copy(update={"files": {name: sha256(data) for name, data in sorted(files.items())}})
    sealed = sealed.model_copy(update={"model_id": _content_id(sealed, _NOT_IN_MODEL_ID)})
    sealed = sealed.model_copy(update={"checksum": _checksum(sealed)})
    return sealed, _canonical(sealed)


def read_manifest(data: bytes, where: str) -> Manifest:
    """Parse and check the bytes of manifest.json; ``where`` names the artifact in errors.

    Raises:
        ArtifactError: with all errors of the fields, an unknown format, or a change after sealing.
    """
    path = f"{where}/{MANIFEST}"
    try:
        values = json.loads(data)
        version = values.get("format_version")
    except (ValueError, AttributeError, RecursionError):
        raise ArtifactError(f"{path}: must be a JSON object; copy the artifact again") from None
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"{path}: format_version must be {FORMAT_VERSION}, was: {version!r}; "
            "use the release that wrote it, or train again"
        )
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        raise ArtifactError(
            [
                f"{path}: {'.'.join(map(str, entry['loc']))}: {message}"
                for entry in error.errors()
                for message in messages_of(entry)
            ]
        ) from None
    if data != _canonical(manifest) or manifest.checksum != _checksum(manifest):
        raise ArtifactError(f"{path}: file was changed after the artifact was made (its checksum differs)")
    # The id names folders and rows, so it is computed here, whoever wrote the file.
    is_own_id = manifest.model_id == _content_id(manifest, _NOT_IN_MODEL_ID)
    if set(manifest.files) - {*OPTIONAL_FILES} != required_files(manifest) or not is_own_id:
        raise ArtifactError(f"{path}: file was changed after the artifact was made (model_id or files do not fit)")
    return manifest


def network_id(manifest: Manifest) -> str:
    """Return a hash of what decides logits; models that differ in calibration and thresholds only share it."""
    return _content_id(manifest, _NOT_IN_NETWORK_ID)


def logits_id(manifest: Manifest, dtype: str, engine: str = "torch") -> str:
    """Return a hash of network, dtype and engine: texts have equal logits if it is equal.

    Without a backbone, dtype and engine have no effect.
    """
    parts = [network_id(manifest), *([dtype, engine] if manifest.backbone else [])]
    return sha256("\n".join(parts).encode())[:32]


def _content_id(manifest: Manifest, excluded: dict[str, Any]) -> str:
    """Hash the manifest without some fields, and the files that decide a score."""
    content = manifest.model_dump(mode="json", exclude=excluded, exclude_none=True)
    content["tensors"] = [manifest.files[name] for name in SCORING_FILES if name in manifest.files]
    return sha256(json.dumps(content, sort_keys=True).encode())[:32]


def _checksum(manifest: Manifest) -> str:
    """Hash the whole manifest except the checksum."""
    return sha256(_canonical(manifest.model_copy(update={"checksum": ""})))


def _canonical(manifest: Manifest) -> bytes:
    """Write a manifest in the only form that is accepted."""
    values = manifest.model_dump(mode="json", exclude_none=True)
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def sha256(data: bytes) -> str:
    """Return the hash of a file's bytes, as in a manifest."""
    return hashlib.sha256(data).hexdigest()
