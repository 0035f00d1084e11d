"""Logistic regressions on fixed features: validation chooses the penalty, and the result is an artifact."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import save
from sklearn.preprocessing import StandardScaler

from ptec_training.calibrate.decisions import fit_decisions
from ptec_training.config import LossConfig
from ptec_training.data.dataset import Examples
from ptec_training.data.provenance import seen_in
from ptec_training.evaluate.metrics import mean_average_precision
from ptec_training.evaluate.report import report_on
from ptec_training.export import common_fields, head_files
from ptec_training.fit.head import MIN_RELATIVE_DEVIATION, positive_weights
from ptec_training.fit.tfidf import FittedTfidf, LinearModels, fit_logistic
from ptec_training.methods.method import POOLING, EmbeddingMethod, Learned, Method, Score, Task
from ptec_training.methods.trained import load_learned
from ptec_udf.log import logger
from ptec_udf.model.artifact import SEEN, TFIDF, seal
from ptec_udf.model.backbone import resolve
from ptec_udf.model.folders import write_artifact_files
from ptec_udf.model.manifest import BackboneRef, Manifest
from ptec_udf.monitor.training import PROBABILITIES

Penalties = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
_ABOUT_C = "values of C to choose from; less keeps weights closer to 0"


@dataclass(frozen=True)
class LinearFit:
    """Fitted regressions, the log weights of positives, and fields of the manifest and files of the artifact."""

    score: Score
    models: LinearModels
    log_weights: NDArray[np.float64]
    fields: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)


class Linear(Method):
    """A method that is fitted to the minimum, so that no seed matters."""

    deployable: ClassVar[bool] = True

    C: Penalties

    @abstractmethod
    def fit(self, rows: Examples, template: str, penalty: float) -> LinearFit:
        """Make features of these rows, whose texts are of a template, and fit a regression for each label."""

    def learn(self, task: Task) -> Learned:
        """Let validation choose the penalty and decide, fit to all rows, and read the model back from its artifact."""
        started, validation, whole = time.monotonic(), task.validation, task.whole
        fits = {penalty: self.fit(task.train, task.template, penalty) for penalty in self.C}
        logits = {penalty: fit.score(validation.texts) for penalty, fit in fits.items()}
        quality = {C: round(mean_average_precision(values, validation.targets), 6) for C, values in logits.items()}
        best = max(quality, key=quality.__getitem__)
        logger.info(f"mAP on validation by C: {quality}; {best:g} is the best")
        first, final = fits[best], self.fit(whole, task.template, best)
        decisions = fit_decisions(logits[best], validation.targets, first.log_weights)
        calibration, thresholds, rates = decisions.calibration, decisions.thresholds, task.train.targets.mean(axis=0)
        report = report_on(logits[best], validation.targets, calibration, thresholds, task.names, rates)
        for figures in report["per_label"].values():
            del figures[PROBABILITIES]  # of the first fit, which is replaced: drift must not use them
        metrics = {
            "learning": {"seconds": round(time.monotonic() - started, 1)},
            "chosen_on_validation": {"C": {"chosen": best, "map": quality}},
            "log_pos_weights": dict(zip(task.names, final.log_weights.tolist(), strict=True)),
            "splits": {"validation": report},
        }
        decisions = decisions.adjust_for_class_weights(first.log_weights, final.log_weights)
        common = common_fields(task.record, task.names, decisions, whole.targets)
        weights, biases = (torch.from_numpy(values).float() for values in final.models)
        files = final.files | head_files({"weight": weights.contiguous(), "bias": biases}, metrics)
        files[SEEN] = save(seen_in(task.record, [whole]))
        manifest, folder = Manifest(**common, **final.fields), task.folder / "artifact"
        write_artifact_files(seal(manifest, files), folder)
        return load_learned(folder)


class Head(EmbeddingMethod, Linear):
    """PTEC without its prompt: a linear layer on standardised embeddings, with PTEC's weights of positives."""

    method: Literal["head"] = "head"

    C: Penalties = Field([0.001, 0.003, 0.01, 0.03, 0.1, 0.3], description=_ABOUT_C)

    def fit(self, rows: Examples, template: str, penalty: float) -> LinearFit:
        """Standardise embeddings by these rows, and fuse the scaling into the weights."""
        features = self.embed(rows.texts, template)
        scaler = StandardScaler().fit(features)
        scaler.scale_ = np.maximum(scaler.scale_, MIN_RELATIVE_DEVIATION * np.median(scaler.scale_))
        of_positives = positive_weights(rows.targets, LossConfig())
        class_weights = np.stack([np.ones_like(of_positives), of_positives], axis=1)
        options = {"C": penalty, "max_iter": 500}
        scaled = fit_logistic(scaler.transform(features), rows.targets, class_weights, options)
        weights = scaled.weights / scaler.scale_
        models = LinearModels(weights, scaled.biases - weights @ scaler.mean_)
        return LinearFit(
            score=lambda texts: models.logits(self.embed(texts, template)),
            models=models,
            log_weights=np.log(of_positives),
            fields={
                "backbone": BackboneRef(name=self.backbone, content_hash=resolve(self.backbone).content_hash()),
                "max_tokens": self.max_tokens,
                "cut": self._cut,
                "pooling": POOLING,
            },
        )


class Tfidf(Linear):
    """TF-IDF of words and characters, and balanced logistic regressions: the cheapest floor."""

    method: Literal["tfidf"] = "tfidf"

    C: Penalties = Field([1.0, 3.0, 10.0, 30.0, 100.0], description=_ABOUT_C)

    def fit(self, rows: Examples, template: str, penalty: float) -> LinearFit:
        """Count terms in these rows."""
        fitted = FittedTfidf.fit(rows, penalty)
        terms = fitted.vectorizer
        fields, files = {"tfidf": terms.form}, {TFIDF: terms.to_json()}
        return LinearFit(fitted.logits, fitted.models, fitted.log_weights, fields, files)
