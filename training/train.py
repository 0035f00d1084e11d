"""From an extract to an artifact: the main line of ``ptec train``."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ptec_training.calibrate.decisions import Decisions, fit_decisions
from ptec_training.config import TrainConfig
from ptec_training.data.dataset import Rows
from ptec_training.data.provenance import seen_in
from ptec_training.evaluate.report import report_on
from ptec_training.export import common_fields, export
from ptec_training.fit.distributed import process_state, silence_other_processes
from ptec_training.fit.inputs import TrainingInputs, check_paths, load_inputs
from ptec_training.fit.layer_cache import cache_lower_layers
from ptec_training.fit.prompt import prompt_spec
from ptec_training.fit.tfidf import FittedTfidf, choose_factor
from ptec_training.fit.trainer import Trainer
from ptec_training.locks import lock_folder
from ptec_training.tracking import log_training
from ptec_udf.log import logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.folders import check_artifact_folder, check_writable
from ptec_udf.model.manifest import BackboneRef, LoraSpec, Manifest
from ptec_udf.monitor.training import PROBABILITIES


def train(config: TrainConfig, evaluated: Sequence[str] = ("dev",), state_folder: Path | None = None) -> dict[str, Any]:
    """Train a model, write its artifact, and return its model_id, folder, seconds and overall metrics of each split.

    Splits in ``evaluated`` are measured at the end and decide nothing; others are not read. ``state_folder`` keeps
    checkpoints and cached layers for trainings that share some. None: they are kept next to the artifact until it is
    written, so that a killed training resumes. Raises a UserError, or a TrainingError if training diverges.
    """
    silence_other_processes()
    config = config.model_copy(update={"out": str(Path(config.out).resolve())})  # a link stays, its target is replaced
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
    started, out = time.monotonic(), Path(config.out)
    inputs = load_inputs(config, ("train", "validation", *evaluated))
    names, rows = inputs.label_names, inputs.rows
    seen = seen_in(inputs.record, [rows["train"], rows["validation"]])
    cut = {split: f"{len(those)} ({those.n_cut} cut)" for split, those in rows.items()}
    logger.info(f"{len(names)} labels; rows, and texts cut to {config.max_tokens} tokens: {cut}")
    for split in ("train", "validation"):
        rows[split] = cache_lower_layers(inputs, rows[split], folder / "layers")
    model, decisions, metrics = _fit(inputs, folder)
    metrics["learning"] = {"seconds": round(time.monotonic() - started, 1)}
    for split in evaluated:
        if len(rows[split]):
            logits = model.logits(rows[split], bfloat16=False)  # so that figures do not depend on the machine
            metrics["splits"][split] = _report(inputs, logits, rows[split], decisions, model.rows)
    run_id = None
    if process_state().is_main_process:
        check_artifact_folder(out, config.overwrite)  # another process may have written there; checkpoints are kept
        networks = [trainer.network for trainer in model.trainers]
        export(networks, _manifest(inputs, model, decisions), metrics, out, seen=seen, tfidf=model.tfidf)
        run_id = log_training(config, out, load_artifact(out).model_id, metrics)
    process_state().wait_for_everyone()
    return {
        "model_id": load_artifact(out).model_id,
        "artifact": str(out),
        "seconds": metrics["learning"]["seconds"],
        "metrics": {split: report["overall"] for split, report in metrics["splits"].items()},
        **({"mlflow_run": run_id} if run_id else {}),
    }


@dataclass(frozen=True)
class _Ensemble:
    """One or several trained members; TF-IDF is added to the mean of their logits."""

    trainers: list[Trainer]
    tfidf: FittedTfidf | None = None

    @property
    def rows(self) -> Rows:
        return self.trainers[0].rows

    @property
    def log_weights(self) -> np.ndarray:
        """Logarithms of the weights of positives, by which logits are shifted, *Shape:* ``(n_labels,)``."""
        of_network = self.trainers[0].log_weights
        return of_network if self.tfidf is None else of_network + self.tfidf.log_weights

    def logits(self, rows: Rows, *, bfloat16: bool | None = None) -> np.ndarray:
        """Score rows, *Shape:* ``(n_rows, n_labels)``; ``bfloat16`` None: as in training."""
        scored = [trainer.logits(rows, bfloat16=bfloat16) for trainer in self.trainers]
        of_network = scored[0] if len(scored) == 1 else np.mean(scored, axis=0)
        return of_network if self.tfidf is None else of_network + self.tfidf.logits(rows.texts)


def _fit(inputs: TrainingInputs, folder: Path) -> tuple[_Ensemble, Decisions, dict[str, Any]]:
    """Train on train, fit decisions to validation, and refit on both if that is set.

    After a refit, calibration and thresholds come from the first fit, on logits that it did not learn from, adjusted
    for the new weights of positives. The metrics have the report of validation by the first fit.
    """
    config, train, validation = inputs.config, inputs.rows["train"], inputs.rows["validation"]
    model = _fit_members(inputs, train, validation, folder, [None] * config.ensemble_size)
    states, factor = {f"first-{at}": asdict(one.state) for at, one in enumerate(model.trainers)}, 0.0
    logits = model.logits(validation)
    if config.tfidf is not None:
        tfidf = FittedTfidf.fit(train, config.tfidf.C)
        of_tfidf = tfidf.logits(validation.texts)
        factor = choose_factor(logits, of_tfidf, validation.targets, config.tfidf.blend_weights)
        model = replace(model, tfidf=tfidf.scaled(factor) if factor else None)
        logits = logits + factor * of_tfidf
    decisions = fit_decisions(logits, validation.targets, model.log_weights, config.thresholds)
    report = _report(inputs, logits, validation, decisions, train)
    if config.stopping.refit:
        for figures in report["per_label"].values():
            del figures[PROBABILITIES]  # of a model that the refit replaces: drift must not use them
        n_epochs = [trainer.state.best_epoch for trainer in model.trainers]
        logger.info(f"refit on train and validation, epochs: {', '.join(map(str, n_epochs))}")
        final = _fit_members(inputs, train.concat(validation), None, folder, n_epochs)
        states |= {f"refit-{at}": asdict(one.state) for at, one in enumerate(final.trainers)}
        if config.tfidf is not None and factor:
            final = replace(final, tfidf=FittedTfidf.fit(final.rows, config.tfidf.C).scaled(factor))
        decisions, model = decisions.adjust_for_class_weights(model.log_weights, final.log_weights), final
    metrics = {
        "dtype": inputs.dtype,
        "trainings": states,
        "tfidf_factor": factor,
        "log_pos_weights": dict(zip(inputs.label_names, model.log_weights.tolist(), strict=True)),
        "splits": {"validation": report},
    }
    return model, decisions, metrics


def _fit_members(
    inputs: TrainingInputs, rows: Rows, validation: Rows | None, folder: Path, n_epochs: Sequence[int | None]
) -> _Ensemble:
    """Train all members, with consecutive seeds."""
    trainers = []
    for at, n in enumerate(n_epochs):
        seed = (inputs.config.seed + at) % 2**32
        logger.info(f"training {at + 1} of {len(n_epochs)}, seed {seed}")
        trainers.append(Trainer(inputs, rows, validation, folder, seed=seed, n_epochs=n))
        trainers[-1].fit()
    return _Ensemble(trainers)


def _report(
    inputs: TrainingInputs, logits: np.ndarray, rows: Rows, decisions: Decisions, learned: Rows
) -> dict[str, Any]:
    rates = learned.targets.mean(axis=0)
    return report_on(logits, rows.targets, decisions.calibration, decisions.thresholds, inputs.label_names, rates)


def _manifest(inputs: TrainingInputs, model: _Ensemble, decisions: Decisions) -> Manifest:
    config = inputs.config
    return Manifest(
        backbone=BackboneRef(name=config.backbone, content_hash=inputs.content_hash),
        max_tokens=config.max_tokens,
        cut=inputs.encoder.cut,
        pooling=config.pooling,
        prompt=prompt_spec(config.prompt, model.trainers[0].network.caches_prompt) if config.has_prompt else None,
        lora=LoraSpec(rank=config.lora.rank, alpha=config.lora.alpha) if config.lora else None,
        members=config.ensemble_size if config.ensemble_size > 1 else None,
        tfidf=model.tfidf and model.tfidf.vectorizer.form,
        **common_fields(inputs.record, inputs.label_names, decisions, model.rows.targets),
    )
