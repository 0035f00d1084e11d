"""The form of an artifact: a folder that holds all of a trained model but its backbone.

========================== =====================================================================
manifest.json              what it is and how to use it: see manifest.py
adapter_config.json        PEFT's own file; only with a prompt or LoRA
adapter_model.safetensors  PEFT's own file: the soft prompt, under the name ``prompt_embeddings``, or LoRA's matrices;
                           only with one of them; prompts of further members as ``prompt_embeddings.1`` and so on
tfidf.json                 the terms of TF-IDF, see terms.py; only of a model that has them, in place of a backbone or
                           beside one
head.safetensors           ``weight`` (n_labels, width or number of terms) and ``bias`` (n_labels,), float32; of several
                           members stacked, their number the first dimension. With label attention, ``queries``
                           (n_labels, width), of members likewise. With terms beside a backbone, ``terms.weight``
                           (n_labels, number of terms) and ``terms.bias`` (n_labels,), whose logits are added
metrics.json               what training measured
choice.safetensors         the same tensors of the first training, which has not seen validation; only if a
                           second one followed. A later training can start from them
seen.safetensors           hashes of the rows that were learned from or fitted to, which must not judge the model: see
                           training/data/provenance.py. Artifacts that were made before there was this file lack it
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
PROMPT = "prompt_embeddings"  # PEFT's name of the tensor
TFIDF_WEIGHT, TFIDF_BIAS = "tfidf.weight", "tfidf.bias"

# Only a later training reads it; not every artifact has it.
CHOICE = "choice.safetensors"
# Only what compares, trains or recalibrates reads it.
SEEN = "seen.safetensors"

# What decides a score beside the manifest, and with it what an executor is sent, as far as a model has it.
DECIDING = (ADAPTER, HEAD, TFIDF)
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


def files_of(manifest: Manifest) -> set[str]:
    """Name the files that must lie beside a manifest."""
    adapter = {ADAPTER, ADAPTER_CONFIG} if manifest.has_adapter else set()
    return {HEAD, METRICS} | adapter | ({TFIDF} if manifest.tfidf else set())


def seal(manifest: Manifest, files: Mapping[str, bytes]) -> tuple[Manifest, bytes]:
    """Fill in hashes, model_id and checksum.

    Args:
        manifest: with everything else filled in.
        files: bytes of all other files of the artifact, by name.

    Returns:
        The sealed manifest and the bytes of manifest.json.
    """
    sealed = manifest.model_copy(update={"files": {name: sha256(data) for name, data in sorted(files.items())}})
    sealed = sealed.model_copy(update={"model_id": _model_id(sealed)})
    sealed = sealed.model_copy(update={"checksum": _checksum(sealed)})
    return sealed, _canonical(sealed)


def read_manifest(data: bytes, where: str) -> Manifest:
    """Parse and check manifest.json.

    Args:
        data: its bytes.
        where: the artifact, for error texts.

    Raises:
        ArtifactError: naming every fault of it, an unknown format, or a change after it was sealed.
    """
    place = f"{where}/{MANIFEST}"
    try:
        values = json.loads(data)
        version = values.get("format_version")
    except (ValueError, AttributeError, RecursionError):
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
            [
                f"{place}: {'.'.join(map(str, fault['loc']))}: {message}"
                for fault in error.errors()
                for message in messages_of(fault)
            ]
        ) from None
    if data != _canonical(manifest) or manifest.checksum != _checksum(manifest):
        raise ArtifactError(f"{place}: file was changed after the artifact was made (its checksum differs)")
    # The id is a name of folders and rows, so it must be what we would give, whoever wrote the file.
    if set(manifest.files) - {*OPTIONAL_FILES} != files_of(manifest) or manifest.model_id != _model_id(manifest):
        raise ArtifactError(f"{place}: file was changed after the artifact was made (model_id and files do not fit)")
    return manifest


def logits_id(manifest: Manifest) -> str:
    """Hash what decides logits: models that share it give a text the same ones, whatever they make of them."""
    return _content_id(manifest, _NOT_IN_LOGITS_ID)


def _model_id(manifest: Manifest) -> str:
    """Hash what decides a score."""
    return _content_id(manifest, _NOT_IN_MODEL_ID)


def _content_id(manifest: Manifest, left_out: dict[str, Any]) -> str:
    """Hash the manifest's content, but for some of it, and the files of weights and terms."""
    content = manifest.model_dump(mode="json", exclude=left_out, exclude_none=True)
    content["tensors"] = [manifest.files[name] for name in DECIDING if name in manifest.files]
    return sha256(json.dumps(content, sort_keys=True).encode())[:32]


def _checksum(manifest: Manifest) -> str:
    """Hash the whole manifest but the checksum itself."""
    return sha256(_canonical(manifest.model_copy(update={"checksum": ""})))


def _canonical(manifest: Manifest) -> bytes:
    """Write a manifest in the one form that is accepted."""
    values = manifest.model_dump(mode="json", exclude_none=True)
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def sha256(data: bytes) -> str:
    """Hash a file, as a manifest has it."""
    return hashlib.sha256(data).hexdigest()
