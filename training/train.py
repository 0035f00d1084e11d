"""From an extract to an artifact: the main line of ``ptec train``."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptec_udf.engine.encode import Encoder
from ptec_udf.errors import ConfigError
from ptec_udf.model.artifact import MANIFEST, BackboneName, ExtractOrigin, Label, Manifest, PromptForm
from ptec_udf.model.backbone import resolve
from ptec_udf.model.network import PtecNetwork
from ptec_udf.progress import say
from training.args import TrainConfig
from training.calibrate import CALIBRATORS, Calibration, common_threshold, threshold_probabilities
from training.checkpoint import Checkpoint
from training.data import Rows, read_splits
from training.export import export
from training.extract_folder import read_extract_record
from training.fit import Trainer
from training.forward import autocast_forward, has_bfloat16, over_rows
from training.head import StandardisedHead
from training.loss import positive_weights
from training.metrics import evaluate
from training.prompt import check_room, initial_prompt, prompt_form

_ROWS_FOR_SCALING = 512
_PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers", "numpy")


@dataclass(frozen=True)
class Decisions:
    """What is chosen on tune after training.

    Attributes:
        calibration: scale and offset per label.
        threshold_logit: the common threshold on the raw logit.
        thresholds: the same as a probability of each label, *Shape:* ``(n_labels,)``.
    """

    calibration: Calibration
    threshold_logit: float
    thresholds: np.ndarray


def train(config: TrainConfig) -> dict[str, Any]:
    """Train a model and write its artifact.

    Returns:
        model_id, artifact folder, seconds and the overall metrics of each split.

    Raises:
        ConfigError: for a folder in use, or settings that do not suit the backbone.
        SourceError: for an extract that cannot be used.
        BackboneError: for a backbone that is missing.
        TrainingError: when training diverges.
    """
    out = Path(config.out)
    _check_out(out, config.overwrite)
    record = read_extract_record(config.extract)
    names = [label["name"] for label in record["labels"]]
    backbone = resolve(config.backbone)
    content_hash = backbone.content_hash()
    model, tokenizer = backbone.load()
    check_room(config.prompt, model, config.max_tokens)
    encoder = Encoder(tokenizer, config.max_tokens)
    splits = read_splits(config.extract, encoder, tune_share=config.stopping.tune_share, most_rows=config.most_rows)
    say(f"{len(names)} labels; rows: " + ", ".join(f"{split} {len(rows)}" for split, rows in splits.items()))

    weights = positive_weights(splits["train"].targets, config.loss)
    network = _network(config, model, encoder, names, splits["train"], weights)
    trainer = Trainer(
        network=network,
        rows=splits["train"],
        tune=splits["tune"],
        weights=torch.from_numpy(weights).float().to(network.prompt.device),
        config=config,
        bfloat16=_bfloat16(config),
        checkpoint=Checkpoint(out.with_name(f".{out.name}.training"), _fingerprint(config, record, content_hash)),
    )
    course = trainer.fit()
    decisions = _decide(trainer, np.log(weights))
    metrics = {"course": asdict(course), "splits": _measure(trainer, splits, decisions, names)}
    manifest = Manifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        backbone=BackboneName(name=config.backbone, content_hash=content_hash),
        template=record["template"],
        max_tokens=config.max_tokens,
        pooling=config.pooling,
        prompt=PromptForm(**prompt_form(config.prompt, network.caches_prompt)),
        calibrator=config.calibrator,
        threshold_logit=decisions.threshold_logit,
        labels=_labels(names, decisions, splits["train"].targets.sum(axis=0)),
        extract=ExtractOrigin(
            fingerprint=record["fingerprint"],
            source=record["name"],
            source_id=record["source_id"],
            version=record["version"],
        ),
        packages={name: importlib.metadata.version(name) for name in _PACKAGES},
        files={},
    )
    sealed = export(network, manifest, metrics, out)
    trainer.checkpoint.remove()
    overall = {split: values["overall"] for split, values in metrics["splits"].items()}
    return {"model_id": sealed.model_id, "artifact": str(out), "seconds": round(course.seconds, 1), "metrics": overall}


def _check_out(out: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something, unless it is an artifact to be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if overwrite and (out / MANIFEST).is_file():
        return
    advice = "it holds no artifact, choose another" if overwrite else "choose another or set overwrite to true"
    raise ConfigError(f"out must be absent or empty, was in use: {str(out)!r}; {advice}")


def _network(
    config: TrainConfig, model: Any, encoder: Encoder, names: list[str], rows: Rows, weights: np.ndarray
) -> PtecNetwork:
    """Make the network with its first prompt and head."""
    generator = torch.Generator().manual_seed(config.seed)
    network = PtecNetwork(
        backbone=model,
        kind=config.prompt.kind,
        prompt=initial_prompt(config.prompt, model, encoder.tokenizer, names, generator),
        head=torch.nn.Identity(),  # until its scaling is known, the network gives features
        pooling=config.pooling,
    ).to("cuda" if torch.cuda.is_available() else "cpu")
    forward = autocast_forward(network, _bfloat16(config))
    budget = config.optimiser.micro_batch_tokens
    features = over_rows(forward, rows.ids[:_ROWS_FOR_SCALING], budget)
    of_names = None
    if config.head_init == "labels":
        ids = [text.ids or [encoder.pad_id] for text in encoder.encode(names)]
        of_names = torch.from_numpy(over_rows(forward, ids, budget))
    share = rows.targets.mean(axis=0)
    weighted = share * weights / (share * weights + 1 - share)
    head = StandardisedHead(
        torch.from_numpy(features),
        torch.from_numpy(weighted).float(),
        generator,
        config.head_dropout,
        of_names,
    )
    network.head = head.to(network.prompt.device)
    return network


def _bfloat16(config: TrainConfig) -> bool:
    return has_bfloat16() if config.dtype == "auto" else config.dtype == "bfloat16"


def _decide(trainer: Trainer, log_pos_weight: np.ndarray) -> Decisions:
    """Fit calibration and threshold on tune, the only rows that choose anything."""
    logits, targets = trainer.logits(trainer.tune), trainer.tune.targets
    calibration = CALIBRATORS[trainer.config.calibrator](logits, targets, log_pos_weight)
    threshold = common_threshold(logits, targets)
    return Decisions(calibration, threshold, threshold_probabilities(threshold, calibration))


def _measure(trainer: Trainer, splits: dict[str, Rows], decisions: Decisions, names: list[str]) -> dict[str, Any]:
    """Report every split but train."""
    base_rates = splits["train"].targets.mean(axis=0)
    return {
        split: evaluate(
            trainer.logits(rows), rows.targets, decisions.calibration, decisions.thresholds, names, base_rates
        )
        for split, rows in splits.items()
        if split != "train" and len(rows)
    }


def _labels(names: list[str], decisions: Decisions, positives: np.ndarray) -> list[Label]:
    """Describe the labels for the manifest."""
    calibration = decisions.calibration
    columns = (names, decisions.thresholds, calibration.scale, calibration.offset, positives)
    return [
        Label(
            name=name, threshold=float(threshold), scale=float(scale), offset=float(offset), training_positives=int(n)
        )
        for name, threshold, scale, offset, n in zip(*columns, strict=True)
    ]


def _fingerprint(config: TrainConfig, record: dict[str, Any], content_hash: str) -> str:
    """Name a training run, so that only the same one is resumed."""
    settings = config.model_dump(mode="json", exclude={"out", "overwrite"})
    facts = [settings, record["fingerprint"], content_hash]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
