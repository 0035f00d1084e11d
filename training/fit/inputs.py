"""From a configuration to everything that a training needs: backbone, rows, start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptec_udf.engine.encoder import Encoder
from ptec_udf.errors import ConfigError, UserError, collect_errors
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.backbone import resolve
from training.artifact_folder import check_out
from training.config import TrainConfig
from training.data.dataset import Examples, Rows, read_splits, tokenised
from training.data.folder import read_extract_record
from training.data.provenance import is_seen, seen_in
from training.fit import lora
from training.fit.prompt import check_kind, check_room, check_upper_layers
from training.fit.start import Start
from training.fit.warm import Earlier, read_earlier
from training.packages import packages
from training.processes.group import ALONE, Group

_AFTER_TRAINING = ("terms", "calibrator", "thresholds")


@dataclass(frozen=True)
class Prepared:
    """What a training is made of.

    Attributes:
        record: of the extract.
        content_hash: of the backbone.
        start: where each of its trainings starts.
        rows: by split.
        fingerprints: name the training of each member, so that only the same one is resumed. One that shares nothing
            with the others has the name of a training of its seed alone, so that it is taken from there.
        identity: names the artifact that it leads to.
        seen: hashes of the rows that it learns from; None where it starts from a model that does not say its own.
    """

    record: dict[str, Any]
    content_hash: str
    start: Start
    rows: dict[str, Rows]
    fingerprints: list[str]
    identity: str
    seen: dict[str, torch.Tensor] | None


def prepare(config: TrainConfig, splits: Sequence[str], group: Group = ALONE) -> Prepared:
    """Load the backbone and the rows of some splits, for the processes of a group.

    Raises:
        ConfigError: for settings that do not suit the backbone, or the model to start from.
        SourceError: for an extract that cannot be used.
        ArtifactError: for a model to start from that is not whole.
        BackboneError: for a backbone that is missing.
    """
    record = read_extract_record(config.extract)
    names = [label["name"] for label in record["labels"]]
    backbone = resolve(config.backbone)
    content_hash = backbone.content_hash()
    earlier = read_earlier(config, content_hash, record)
    model, tokenizer = backbone.load()
    model.to("cuda" if torch.cuda.is_available() else "cpu")  # before any prompt is made from its embeddings
    _check_settings(config, record, model)
    encoder = Encoder(tokenizer, config.max_tokens, record["template"])
    auxiliary = [label["name"] for label in record["auxiliary"]] if config.auxiliary else []
    examples = read_splits(
        config.extract,
        validation_share=config.stopping.validation_share,
        most_rows=config.most_rows,
        auxiliary=config.auxiliary is not None,
    )
    for split in set(splits) - {"train", "validation"}:
        examples[split] = _not_learned(split, examples[split], record, earlier)

    facts = [record["fingerprint"], content_hash, encoder.cut, earlier and earlier.model_id, packages()]

    def named(config: TrainConfig) -> str:
        return _fingerprint(config, facts)

    return Prepared(
        record=record,
        content_hash=content_hash,
        start=Start(config, model, encoder, names, earlier, auxiliary, group),
        rows={split: tokenised(examples[split], encoder) for split in splits},
        fingerprints=_of_members(config, earlier, named),
        identity=_identity(config, named(config)),
        seen=_seen(record, examples, earlier),
    )


def check_places(config: TrainConfig) -> None:
    """Refuse what is not there or in the way, all of it at once; what suits what is looked at later.

    Raises:
        UserError: naming all faults.
    """
    faults: list[str] = []
    with collect_errors(faults):
        check_out(Path(config.out), config.overwrite)
    with collect_errors(faults):
        read_extract_record(config.extract)
    with collect_errors(faults):
        if config.processes_on == "local":  # executors may have it where this machine has not
            resolve(config.backbone).content_hash()
    with collect_errors(faults):
        if config.start_from is not None:
            load_artifact(config.start_from)
            if Path(config.start_from).resolve() == Path(config.out).resolve():
                raise ConfigError(
                    f"start_from must not be what out replaces, was: {config.start_from!r} for both; a training that "
                    "was killed could not start from there again; choose another out"
                )
    if faults:
        raise UserError(faults)


def _check_settings(config: TrainConfig, record: dict[str, Any], model: Any) -> None:
    """Refuse settings that do not suit the extract or the backbone, all of them at once."""
    faults: list[str] = []
    if config.auxiliary is not None and "auxiliary" not in record:
        faults.append(
            f"auxiliary must be null for an extract without auxiliary labels, was: weight {config.auxiliary.weight:g} "
            f"for {config.extract!r}; run ptec extract with labels.auxiliary"
        )
    with collect_errors(faults):
        check_kind(config, model)
    with collect_errors(faults):
        check_upper_layers(config, model)
    with collect_errors(faults):
        check_room(config.prompt.n_tokens if config.has_prompt else 0, model, config.max_tokens)
    if config.lora is not None:
        with collect_errors(faults):
            lora.put_into(model, config.lora, config.seed)  # refuses layers that are not there; nothing changes yet
    if faults:
        raise ConfigError(faults)


def _not_learned(split: str, examples: Examples, record: dict[str, Any], earlier: Earlier | None) -> Examples:
    """Leave out rows that the model to start from has learned from: they would flatter what is measured."""
    if earlier is None or earlier.seen is None or not len(examples):
        return examples
    kept = np.flatnonzero(~is_seen(earlier.seen, record, examples.keys, examples.texts)).tolist()
    if n_learned := len(examples) - len(kept):
        logger.info(f"rows of {split} that the model to start from has learned from are not measured: {n_learned}")
    return examples.only(kept)


def _seen(
    record: dict[str, Any], examples: dict[str, Examples], earlier: Earlier | None
) -> dict[str, torch.Tensor] | None:
    before = earlier.seen if earlier else None
    if earlier and before is None:
        return None
    return seen_in(record, [examples["train"], examples["validation"]], before)


def _fingerprint(config: TrainConfig, facts: Sequence[Any]) -> str:
    """Hash what decides a training: its settings, and facts that are no settings."""
    # Whether a refit follows makes no difference to what came before it, nor what is made of a network's logits, nor
    # how many processes there are; what lies in a folder counts and not how the folder is called.
    places = ("backbone", "extract", "start_from", "out", "overwrite", "processes", "processes_on")
    unlike: dict[str, Any] = dict.fromkeys((*places, *_AFTER_TRAINING), True)
    # Without what is null, so that trainings outlive settings that are yet to come.
    settings = config.model_dump(mode="json", exclude=unlike | {"stopping": {"refit"}}, exclude_none=True)
    return hashlib.sha256(json.dumps([settings, *facts], sort_keys=True).encode()).hexdigest()


def _of_members(config: TrainConfig, earlier: Earlier | None, named: Callable[[TrainConfig], str]) -> list[str]:
    """Name the training of each member by the configuration that would make it alone, if there is one."""
    if config.members == 1:
        return [named(config)]
    if config.combine == "logits" and earlier is None:
        alone = {"members": 1, "combine": TrainConfig.model_fields["combine"].default}
        seeds = [config.seed_of(at) for at in range(config.members)]
        return [named(config.model_copy(update={**alone, "seed": seed})) for seed in seeds]
    whole = named(config)
    return [hashlib.sha256(f"{whole}-{at}".encode()).hexdigest() for at in range(config.members)]


def _identity(config: TrainConfig, fingerprint: str) -> str:
    """Hash what decides an artifact: with its trainings also what ``_fingerprint`` leaves out."""
    settings = config.model_dump(mode="json", include={*_AFTER_TRAINING, "stopping"})
    return hashlib.sha256(json.dumps([fingerprint, settings], sort_keys=True).encode()).hexdigest()
