"""The main line of ``ptec evaluate``: champion and challenger score the same held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptec_udf.errors import ConfigError
from ptec_udf.log import logger
from ptec_udf.model.artifact import Artifact
from training.calibrate.decisions import Decisions
from training.evaluate.bootstrap import interval, means_of_defined, resampled_average_precision, resampled_f1
from training.evaluate.comparison import LABEL_FIGURE, Comparison, Difference
from training.evaluate.config import EvaluateConfig
from training.evaluate.metrics import average_precision_per_label, f1_per_label, mean_of_defined
from training.evaluate.report import report_on
from training.evaluate.rows import find_candidates, read_evaluation_rows
from training.methods.artifact import score_texts

FIGURES = ("map", "macro_f1", "micro_f1", "weighted_f1", "auroc", "brier_skill", "ece", "ece_by_chance")


@dataclass(frozen=True)
class ScoredRows:
    """A model's logits and decisions on some rows, for some of its labels.

    Attributes:
        logits: *Shape:* ``(n_rows, n_labels)``.
        decided: which labels the rows get, same shape.
        figures: ``FIGURES`` on these rows; base rates are those of the rows.
    """

    logits: NDArray[np.floating]
    decided: NDArray[np.bool_]
    figures: dict[str, float | None]


def evaluate(config: EvaluateConfig, challenger: Artifact, champion: Artifact | None) -> Comparison:
    """Compare two models, or measure one where there is no champion.

    Args:
        config: the configuration.
        challenger: the model to be judged.
        champion: the model in use.

    Raises:
        ConfigError: for an extract of another template than a model's, or models without a label in common.
        SourceError: for an extract that cannot be used, or rows that a model has learned from.
        BackboneError: for a backbone that is missing or differs.
        TrainingError: when a text cannot be scored.
    """
    rows = read_evaluation_rows(find_candidates(config, challenger, champion), config.split, config.max_learned)
    ours = _labels(challenger)
    theirs = ours if champion is None else _labels(champion)
    shared = [name for name in ours if name in theirs]
    labels = [name for name in shared if name in rows.names]
    if not labels:
        raise ConfigError("both models and the extract must have a label in common, have none; name another extract")
    targets = rows.rows.targets[:, [rows.names.index(name) for name in labels]].astype(bool)
    logger.info(f"{len(targets)} rows of {config.split} evaluate {len(labels)} labels")
    new = score_rows(challenger, rows.rows.texts, targets, labels)
    old = None if champion is None else score_rows(champion, rows.champion_texts, targets, labels)
    return Comparison(
        n_rows=len(targets),
        left_out=rows.left_out,
        held_out=rows.held_out,
        labels=labels,
        unjudged=[name for name in shared if name not in rows.names],
        only_champion=[name for name in theirs if name not in ours],
        only_challenger=[name for name in ours if name not in theirs],
        champion=old.figures if old else {},
        challenger=new.figures,
        confidence=config.gate.confidence,
        differences=differences(old, new, targets, labels, config.resamples, config.gate.confidence) if old else [],
    )


def score_rows(
    artifact: Artifact, texts: Sequence[str], targets: NDArray[np.bool_], labels: Sequence[str]
) -> ScoredRows:
    """Score texts with a model and measure it.

    Args:
        artifact: the model.
        texts: of the rows.
        targets: *Shape:* ``(n_rows, n_labels)``.
        labels: names, in the order of the targets; the model may have others too.
    """
    own = _labels(artifact)
    positions = [own.index(label) for label in labels]
    logits, decisions = score_texts(artifact, texts), Decisions.of(artifact.manifest)
    calibration, thresholds = decisions.calibration.select(positions), decisions.thresholds[positions]
    overall = report_on(logits[:, positions], targets, calibration, thresholds, labels)["overall"]
    return ScoredRows(
        logits[:, positions], decisions.decide(logits)[:, positions], {name: overall[name] for name in FIGURES}
    )


def differences(
    champion: ScoredRows,
    challenger: ScoredRows,
    targets: NDArray[np.bool_],
    labels: Sequence[str],
    resamples: int,
    confidence: float,
) -> list[Difference]:
    """Compare two models by a paired bootstrap over rows, over all labels and in each.

    Args:
        champion: the model in use.
        challenger: the model to be judged.
        targets: *Shape:* ``(n_rows, n_labels)``.
        labels: names, *Shape:* ``(n_labels,)``.
        resamples: number of samples.
        confidence: of the intervals.
    """
    overall, per_label = [], []
    for metric in ("map", "macro_f1"):
        if metric == "map":
            old, new = (average_precision_per_label(side.logits, targets) for side in (champion, challenger))
            before, after = (
                resampled_average_precision(side.logits, targets, resamples) for side in (champion, challenger)
            )
        else:
            old, new = (f1_per_label(side.decided, targets) for side in (champion, challenger))
            before, after = (resampled_f1(side.decided, targets, resamples) for side in (champion, challenger))
        samples = means_of_defined(after - before)
        means = mean_of_defined(old), mean_of_defined(new)
        overall.append(_difference(metric, None, int(targets.sum()), *means, samples, confidence))
        for at, label in enumerate(labels):
            n, samples = int(targets[:, at].sum()), (after - before)[:, at]
            per_label.append(_difference(LABEL_FIGURE[metric], label, n, old[at], new[at], samples, confidence))
    return [*overall, *per_label]


def _difference(
    figure: str,
    label: str | None,
    positives: int,
    old: float,
    new: float,
    samples: NDArray[np.float64],
    confidence: float,
) -> Difference:
    values = (old, new, new - old, *interval(samples, new - old, confidence))
    rounded = [None if np.isnan(value) else round(float(value), 6) for value in values]
    names = ("champion", "challenger", "difference", "low", "high")
    return Difference(figure=figure, label=label, positives=positives, **dict(zip(names, rounded, strict=True)))


def _labels(artifact: Artifact) -> list[str]:
    return [label.name for label in artifact.manifest.labels]
