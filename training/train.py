"""From an extract to an artifact: the main line of ``ptec train``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptec_udf.errors import ArtifactError, BackboneError
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.artifact_format import MANIFEST
from ptec_udf.model.manifest import BackboneRef, LoraSpec, Manifest
from training.artifact_folder import check_out
from training.calibrate.decisions import Decisions, fit_decisions
from training.config import TrainConfig
from training.data.dataset import Rows
from training.describe import common_fields
from training.evaluate.report import report_on, without_distributions
from training.export import export
from training.fit.checkpoint import Course
from training.fit.inputs import Prepared, check_places, prepare
from training.fit.layer_cache import below_prompt
from training.fit.members import Combined, States, fit_members
from training.fit.prompt import prompt_form
from training.fit.start import Start
from training.fit.tfidf import Words
from training.fit.warm import tensors_of
from training.flops import flop_below, flop_of_training
from training.folders import LOCK, alone, check_replaceable, check_writable, followed
from training.processes.group import ALONE, Group
from training.processes.together import run_together


@dataclass(frozen=True)
class Fitted:
    """A model that is ready for export.

    Attributes:
        model: the trained members, which are one model.
        decisions: its calibration and thresholds.
        chosen: what led to their forms, where there was a choice.
        figures: what was measured, by split. Validation is measured on the model that did not train on it.
        courses: the course of each training, by the training's name.
        choice: tensors of the first training where a second one followed.
        flop: floating-point operations of all trainings.
        words_seconds: what fitting words beside the network took.
    """

    model: Combined
    decisions: Decisions
    chosen: dict[str, Any]
    figures: dict[str, Any]
    courses: dict[str, Course]
    choice: dict[str, torch.Tensor] | None
    flop: float
    words_seconds: float


def train(config: TrainConfig, measured: Sequence[str] = ("dev", "test"), shared: Path | None = None) -> dict[str, Any]:
    """Train a model and write its artifact.

    Args:
        config: the configuration.
        measured: splits that the model is measured on in the end, where they have rows; they decide nothing.
        shared: folder that outlives this training, for others to use what they have in common with it: the states
            below a prompt, and all of it where they differ in what follows it; None: beside the artifact.

    Returns:
        model_id, artifact folder, seconds and the overall metrics of each split.

    Raises:
        UserError: for folders, an extract, a backbone or a model to start from that is not there or not whole.
        ConfigError: for settings that do not suit the backbone.
        SourceError: for an extract whose rows cannot be used.
        TrainingError: when training diverges.
    """
    config = config.model_copy(update={"out": str(followed(Path(config.out)))})
    check_replaceable(Path(config.out))
    state = _state_beside(Path(config.out))
    if shared is None and (done := _already_done(config, state)):
        return done
    check_places(config)
    if shared is not None:
        return _in_its_processes(config, measured, shared)
    check_writable(state)
    state.mkdir(parents=True, exist_ok=True)
    with alone(state):
        try:
            return _in_its_processes(config, measured, shared)
        finally:
            if os.listdir(state) == [LOCK]:  # done, or refused before anything was kept
                shutil.rmtree(state, ignore_errors=True)  # its lock is still open, which some network disks mind


def _in_its_processes(config: TrainConfig, measured: Sequence[str], shared: Path | None) -> dict[str, Any]:
    if config.processes > 1 or config.processes_on == "executors":
        return run_together(_train, config, measured, shared)
    return _train(config, measured, shared, ALONE)


def _already_done(config: TrainConfig, state: Path) -> dict[str, Any] | None:
    """Return what a training made that was killed after its artifact was whole, and remove what it left behind."""
    out = Path(config.out)
    if not state.is_dir() or not (out / MANIFEST).is_file():
        return None
    with alone(state):
        try:
            made = load_artifact(out)
        except ArtifactError:  # what is not whole is not done; it may be overwritten
            return None
        try:
            prepared = prepare(config, ())
        except BackboneError:  # executors may have it; where they have not, what comes next says so
            return None
        # Executors have an arithmetic of their own, which this machine cannot know.
        arithmetic = made.metrics.get("arithmetic") if config.processes_on == "executors" else prepared.start.arithmetic
        if (made.metrics.get("identity"), made.metrics.get("arithmetic")) != (prepared.identity, arithmetic):
            return None
        logger.info("the artifact is there: it was whole when its training was killed")
        shutil.rmtree(state, ignore_errors=True)
    return _result(made.model_id, out, made.metrics)


def _state_beside(out: Path) -> Path:
    """Where a training keeps its state."""
    return out.with_name(f".{out.name}.training")


def _train(config: TrainConfig, measured: Sequence[str], shared: Path | None, group: Group) -> dict[str, Any]:
    """Train in this process of a group; the first one writes the artifact and describes it, the others return {}."""
    out = Path(config.out)
    prepared = group.all_or_none(lambda: prepare(config, ("train", "validation", *measured), group))
    names, rows = prepared.start.names, prepared.rows
    logger.info(f"{len(names)} labels; rows: " + ", ".join(f"{split} {len(those)}" for split, those in rows.items()))
    cut = {split: those.n_cut for split, those in rows.items()}
    if any(cut.values()):
        told = ", ".join(f"{split} {n}" for split, n in cut.items())
        logger.info(
            f"texts longer than {config.max_tokens} tokens (max_tokens), of which not everything is read: {told}"
        )
    state = _state_beside(out)
    seconds = 0.0
    for split in ("train", "validation"):
        rows[split], more = below_prompt(prepared, rows[split], shared or state / "below")
        seconds += more
    arithmetic = group.agreed(prepared.start.arithmetic)  # or one process would go on and another one begin
    fitted = _fit(prepared.start, rows, States(shared or state, prepared.fingerprints, arithmetic, shared is not None))
    if not group.is_first:
        return {}
    seconds += fitted.words_seconds + sum(course.seconds for course in fitted.courses.values())
    metrics = {
        "learning": {"seconds": round(seconds, 1), "flop": fitted.flop},
        "identity": prepared.identity,
        "arithmetic": arithmetic,
        "courses": {name: asdict(course) for name, course in fitted.courses.items()},
        "chosen_on_validation": fitted.chosen,
        "started_from": prepared.start.earlier and prepared.start.earlier.model_id,
        "validation_share": config.stopping.validation_share,
        "log_pos_weights": dict(zip(names, fitted.model.log_weights.tolist(), strict=True)),
        "cut_texts": cut,
        "splits": fitted.figures,
    }
    manifest = _manifest(config, prepared, fitted)
    check_out(out, config.overwrite)  # somebody may have put something there meanwhile; what was learned is kept
    sealed = export(fitted.model.network, manifest, metrics, out, fitted.choice, prepared.seen, fitted.model.terms)
    if shared is None:
        for part in set(state.iterdir()) - {state / LOCK}:
            shutil.rmtree(part, ignore_errors=True)
    return _result(sealed.model_id, out, metrics)


def _manifest(config: TrainConfig, prepared: Prepared, fitted: Fitted) -> Manifest:
    """Say what the model is."""
    terms = fitted.model.terms
    return Manifest(
        backbone=BackboneRef(name=config.backbone, content_hash=prepared.content_hash),
        max_tokens=config.max_tokens,
        cut=prepared.start.encoder.cut,
        pooling=config.pooling,
        prompt=prompt_form(config.prompt, fitted.model.network.caches_prompt) if config.has_prompt else None,
        lora=LoraSpec(rank=config.lora.rank, alpha=config.lora.alpha) if config.lora else None,
        members=config.averaged_members if config.averaged_members > 1 else None,
        tfidf=terms and terms.terms.form,
        calibrator=config.calibrator,
        **common_fields(prepared.record, prepared.start.names, fitted.decisions, fitted.model.rows.targets),
    )


def _result(model_id: str, out: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what ``train`` says of an artifact with such metrics."""
    return {
        "model_id": model_id,
        "artifact": str(out),
        "seconds": metrics["learning"]["seconds"],
        "metrics": {split: figures["overall"] for split, figures in metrics["splits"].items()},
    }


def _fit(start: Start, splits: dict[str, Rows], states: States) -> Fitted:
    """Train with validation held out, let validation decide, and train once more with it where that is wanted."""
    stopping, validation = start.config.stopping, splits["validation"]
    model, courses = fit_members(start, splits["train"], validation, "choice", states)
    flop = flop_of_training(model.trainers[0], sum(course.epoch for course in courses.values()))
    flop += flop_below(model.trainers[0].network, start.config.adapter.upper_layers, [splits["train"], validation])
    words = Words(start.config.terms)
    of_network = model.logits(validation)
    model = replace(model, terms=words.chosen_by(validation, of_network, splits["train"]))
    logits = model.with_terms(of_network, validation)
    decisions = fit_decisions(
        logits,
        validation.targets,
        model.log_weights,
        calibrator=start.config.calibrator,
        thresholds=start.config.thresholds,
    )
    chosen = words.report
    figures = {"validation": _measured(logits, model, validation, decisions, start.names)}
    choice = None
    if stopping.refit:
        choice = tensors_of(model.network)
        figures["validation"] = without_distributions(figures["validation"])
        epochs = [course.best_epoch for course in courses.values()]
        logger.info(f"once more from the start, on train and validation together: {', '.join(map(str, epochs))} epochs")
        whole = splits["train"].joined(validation)
        final, refits = fit_members(start, whole, None, "refit", states, epochs)
        courses |= refits
        flop += flop_of_training(final.trainers[0], sum(epochs))
        final = replace(final, terms=words.fitted_to(whole))
        decisions, model = decisions.adjust_for_class_weights(model.log_weights, final.log_weights), final
    for split, rows in splits.items():
        if split not in ("train", "validation") and len(rows):
            figures[split] = _measured(model.as_scored().logits(rows), model, rows, decisions, start.names)
    return Fitted(model, decisions, chosen, figures, courses, choice, flop + words.flop, words.seconds)


def _measured(
    logits: np.ndarray, model: Combined, rows: Rows, decisions: Decisions, names: list[str]
) -> dict[str, Any]:
    """Report one split by its logits."""
    base_rates = model.rows.targets.mean(axis=0)
    return report_on(logits, rows.targets, decisions.calibration, decisions.thresholds, names, base_rates)
