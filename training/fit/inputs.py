"""Everything that a training needs, from its configuration: extract, backbone and tokenised rows."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptec_training.config import TrainConfig
from ptec_training.data.dataset import Rows, read_splits, tokenise
from ptec_training.data.folder import read_extract_record
from ptec_training.fit.distributed import process_state
from ptec_training.fit.prompt import check_backbone
from ptec_udf.engine.device import has_bfloat16
from ptec_udf.engine.encoder import Encoder
from ptec_udf.errors import UserError, collect_errors
from ptec_udf.model.backbone import resolve
from ptec_udf.model.folders import check_artifact_folder

_PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers", "numpy", "scikit-learn")

# Settings that a network's training does not depend on; the content of a folder counts, not its name.
_NOT_IN_FINGERPRINT: dict[str, Any] = dict.fromkeys(
    ("backbone", "extract", "out", "overwrite", "seed", "tfidf", "thresholds", "ensemble_size"), True
) | {"stopping": {"refit"}}


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that decide a result."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


@dataclass(frozen=True)
class TrainingInputs:
    """The data that all trainings share; ``record`` is of the extract, ``content_hash`` of the backbone."""

    config: TrainConfig
    record: dict[str, Any]
    content_hash: str
    backbone: Any
    encoder: Encoder
    label_names: list[str]
    rows: dict[str, Rows]

    @property
    def bfloat16(self) -> bool:
        """Whether the backbone computes in bfloat16."""
        dtype = self.config.dtype
        return has_bfloat16(self.backbone.device.type) if dtype == "auto" else dtype == "bfloat16"

    @property
    def dtype(self) -> str:
        """Device and dtype: a training is not resumed with others, which differ by more than the last digits."""
        return f"{self.backbone.device.type} {'bfloat16' if self.bfloat16 else 'float32'}"

    def fingerprint(self, seed: int, n_epochs: int | None = None) -> str:
        """Hash everything that decides the training of one network; ``n_epochs`` is None unless it is a refit."""
        settings = self.config.model_dump(mode="json", exclude=_NOT_IN_FINGERPRINT)
        facts = [self.record["fingerprint"], self.content_hash, self.encoder.cut, self.dtype, package_versions()]
        values = json.dumps([settings, seed, n_epochs, *facts], sort_keys=True)
        return hashlib.sha256(values.encode()).hexdigest()


def load_inputs(config: TrainConfig, splits: Sequence[str] = ("train", "validation")) -> TrainingInputs:
    """Load the backbone and some splits; without splits, only check settings. May raise a UserError."""
    record, found = read_extract_record(config.extract), resolve(config.backbone)
    backbone, tokenizer = found.load()
    backbone.to(process_state().device)  # before any prompt is made from its embeddings
    check_backbone(config, backbone)
    encoder = Encoder(tokenizer, config.max_tokens, record["template"])
    examples, share = {}, config.stopping.validation_share
    if splits:
        others = [split for split in splits if split not in ("train", "validation")]
        examples = read_splits(config.extract, validation_share=share, max_rows=config.max_rows, others=others)
    return TrainingInputs(
        config=config,
        record=record,
        content_hash=found.content_hash(),
        backbone=backbone,
        encoder=encoder,
        label_names=[label["name"] for label in record["labels"]],
        rows={split: tokenise(rows, encoder) for split, rows in examples.items()},
    )


def check_paths(config: TrainConfig) -> None:
    """Raise a UserError for a missing extract or backbone and an ``out`` in use, all at once."""
    errors: list[str] = []
    with collect_errors(errors):
        check_artifact_folder(Path(config.out), config.overwrite)
    with collect_errors(errors):
        read_extract_record(config.extract)
    with collect_errors(errors):
        resolve(config.backbone).content_hash()
    if errors:
        raise UserError(errors)
