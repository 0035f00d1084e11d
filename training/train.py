"""From an extract to an artifact: the main line of ``ptec train``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.manifest import BackboneRef, LoraSpec, Manifest
from training.artifact_folder import check_out
from training.calibrate.decisions import Decisions, fit_decisions
from training.config import TrainConfig
from training.data.dataset import Rows
from training.data.provenance import seen_in
from training.evaluate.report import report_on, without_distributions
from training.export import common_fields, export
from training.fit.checkpoint import TrainingState
from training.fit.distributed import process_state, silence_other_processes
from training.fit.ensemble import Ensemble, fit_ensemble
from training.fit.inputs import TrainingInputs, check_paths, load_inputs
from training.fit.layer_cache import cache_lower_layers
from training.fit.prompt import prompt_spec
from training.fit.tfidf import TfidfBlend
from training.folders import check_writable, follow_link, lock_folder


@dataclass(frozen=True)
class Fitted:
    """A model that is ready for export.

    Attributes:
        model: the trained members.
        decisions: calibration and thresholds.
        reports: of each evaluated split. Validation is evaluated on the model that did not learn from it.
        states: how each network was trained, by stage and member.
        tfidf_report: how TF-IDF was chosen; None: it was not tried.
        seconds: time of all trainings.
    """

    model: Ensemble
    decisions: Decisions
    reports: dict[str, Any]
    states: dict[str, TrainingState]
    tfidf_report: dict[str, Any] | None
    seconds: float


def train(config: TrainConfig, evaluated: Sequence[str] = ("dev",), state_folder: Path | None = None) -> dict[str, Any]:
    """Train a model and write its artifact.

    Args:
        config: the configuration.
        evaluated: splits that the model is evaluated on at the end; they decide nothing. Other splits are not read.
        state_folder: keeps checkpoints and cached layers after training, for trainings that share some of them; None:
            they are kept next to the artifact until it is written, so that a killed training resumes.

    Returns:
        model_id, artifact folder, seconds and the overall metrics of each split.

    Raises:
        UserError: for folders, an extract or a backbone that cannot be used.
        ConfigError: for settings that do not suit the backbone.
        SourceError: for an extract whose rows cannot be used.
        TrainingError: if training diverges.
    """
    silence_other_processes()
    config = config.model_copy(update={"out": str(follow_link(Path(config.out)))})
    check_paths(config)
    if state_folder is not None:
        return _train(config, evaluated, state_folder)
    with _own_state_folder(Path(config.out)) as folder:
        return _train(config, evaluated, folder)


@contextmanager
def _own_state_folder(out: Path) -> Iterator[Path]:
    """Yield a locked folder next to ``out``; it is removed when the block ends without an error."""
    folder = out.with_name(f".{out.name}.training")
    if not process_state().is_main_process:
        yield folder
        return
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def _train(config: TrainConfig, evaluated: Sequence[str], folder: Path) -> dict[str, Any]:
    inputs, out = load_inputs(config, ("train", "validation", *evaluated)), Path(config.out)
    rows = inputs.rows
    logger.info(
        f"{len(inputs.label_names)} labels; rows: " + ", ".join(f"{split} {len(rows[split])}" for split in rows)
    )
    n_cut = {split: those.n_cut for split, those in rows.items()}
    if any(n_cut.values()):
        logger.info(f"texts cut to {config.max_tokens} tokens (max_tokens): {n_cut}")
    seen = seen_in(inputs.record, [rows["train"], rows["validation"]])
    seconds = 0.0
    for split in ("train", "validation"):
        rows[split], of_cache = cache_lower_layers(inputs, rows[split], folder / "layers")
        seconds += of_cache
    fitted = _fit(inputs, folder)
    if process_state().is_main_process:
        metrics = {
            "learning": {"seconds": round(seconds + fitted.seconds, 1)},
            "dtype": inputs.dtype,
            "trainings": {name: asdict(state) for name, state in fitted.states.items()},
            "tfidf": fitted.tfidf_report,
            "validation_share": config.stopping.validation_share,
            "log_pos_weights": dict(zip(inputs.label_names, fitted.model.log_weights.tolist(), strict=True)),
            "cut_texts": n_cut,
            "splits": fitted.reports,
        }
        check_out(out, config.overwrite)  # another process may have written there; checkpoints are kept
        manifest, tfidf = _manifest(inputs, fitted), fitted.model.tfidf
        export(fitted.model.networks, manifest, metrics, out, seen=seen, tfidf=tfidf)
    process_state().wait_for_everyone()
    artifact = load_artifact(out)
    return {
        "model_id": artifact.model_id,
        "artifact": str(out),
        "seconds": artifact.metrics["learning"]["seconds"],
        "metrics": {split: report["overall"] for split, report in fitted.reports.items()},
    }


def _manifest(inputs: TrainingInputs, fitted: Fitted) -> Manifest:
    config, model = inputs.config, fitted.model
    return Manifest(
        backbone=BackboneRef(name=config.backbone, content_hash=inputs.content_hash),
        max_tokens=config.max_tokens,
        cut=inputs.encoder.cut,
        pooling=config.pooling,
        prompt=prompt_spec(config.prompt, model.networks[0].caches_prompt) if config.has_prompt else None,
        lora=LoraSpec(rank=config.lora.rank, alpha=config.lora.alpha) if config.lora else None,
        members=config.ensemble_size if config.ensemble_size > 1 else None,
        tfidf=model.tfidf and model.tfidf.vectorizer.form,
        calibrator=config.calibrator,
        **common_fields(inputs.record, inputs.label_names, fitted.decisions, model.rows.targets),
    )


def _fit(inputs: TrainingInputs, folder: Path) -> Fitted:
    """Train on train, fit decisions to validation, and refit on both if that is set.

    After a refit, calibration and thresholds are those of the first fit, on logits that it did not learn from, adjusted
    for the new weights of positives. Out-of-fold logits of the refit would take as many trainings as folds.
    """
    config, train, validation = inputs.config, inputs.rows["train"], inputs.rows["validation"]
    model, first_states = fit_ensemble(inputs, train, validation, folder)
    states = {f"first-{at}": state for at, state in enumerate(first_states)}
    logits, blend = model.logits(validation), config.tfidf and TfidfBlend(config.tfidf)
    if blend:
        model = replace(model, tfidf=blend.choose(logits, validation, train))
        logits = model.with_tfidf(logits, validation)
    decisions = fit_decisions(
        logits, validation.targets, model.log_weights, calibrator=config.calibrator, thresholds=config.thresholds
    )
    reports = {"validation": _report(inputs, logits, validation, decisions, train)}
    if config.stopping.refit:
        reports["validation"] = without_distributions(reports["validation"])
        n_epochs = [state.best_epoch for state in first_states]
        logger.info(f"refit on train and validation, epochs: {', '.join(map(str, n_epochs))}")
        whole = train.concat(validation)
        final, refit_states = fit_ensemble(inputs, whole, None, folder, n_epochs)
        states |= {f"refit-{at}": state for at, state in enumerate(refit_states)}
        final = replace(final, tfidf=blend.refit(whole) if blend else None)
        decisions, model = decisions.adjust_for_class_weights(model.log_weights, final.log_weights), final
    for split in set(inputs.rows) - {"train", "validation"}:
        if len(rows := inputs.rows[split]):
            logits = model.logits(rows, bfloat16=False)  # so that figures do not depend on the machine
            reports[split] = _report(inputs, logits, rows, decisions, model.rows)
    seconds = sum(state.seconds for state in states.values()) + (blend.seconds if blend else 0.0)
    return Fitted(model, decisions, reports, states, blend.report if blend else None, seconds)


def _report(
    inputs: TrainingInputs, logits: np.ndarray, rows: Rows, decisions: Decisions, learned: Rows
) -> dict[str, Any]:
    """Evaluate one split by its logits."""
    base_rates = learned.targets.mean(axis=0)
    return report_on(logits, rows.targets, decisions.calibration, decisions.thresholds, inputs.label_names, base_rates)
