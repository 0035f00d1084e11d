"""Derive a model with other probabilities and labels from the logits of a registered model.

The new artifact has the same backbone, adapter and head, and so the same ``logits_id``. Its first run takes the stored
logits and does not run the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from ptec_udf.errors import ConfigError, collect_errors, did_you_mean
from ptec_udf.log import logger
from ptec_udf.model.artifact import METRICS, SEEN, Artifact, load_artifact, read_artifact, seal
from ptec_udf.model.manifest import Manifest
from ptec_udf.monitor.training import PREDICTED, PROBABILITIES, REFERENCE, figures_by_label
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse
from training.calibrate.config import RecalibrateConfig
from training.calibrate.decisions import Decisions, fit_decisions
from training.calibrate.labelled_logits import LabelledLogits, read_labelled_logits
from training.data.folder import read_extract_record
from training.data.provenance import with_fitted
from training.evaluate.metrics import calibration_error, macro_f1
from training.evaluate.report import counts_by_label
from training.folders import check_artifact_folder, write_artifact_files

# Figures of the training report that other calibration and thresholds leave as they are.
_UNCHANGED = {"n_rows", "n_labels", "n_labels_that_occur", "positives", "map", "ap", "auroc"}


class Recalibrated(NamedTuple):
    """Files of the new artifact, its id, and the figures before and after."""

    model_id: str
    files: dict[str, bytes]
    facts: dict[str, Any]


def recalibrate(warehouse: Warehouse, config: RecalibrateConfig) -> dict[str, Any]:
    """Write and register an artifact with other calibration or thresholds; no alias moves.

    Returns:
        model_id, artifact folder, the model it was made from, and the facts in its metrics.

    Raises:
        ConfigError: for all errors of the configuration against the model and the extract, at once.
        RegistryError: if there is no such model.
        ArtifactError: if the model's artifact is broken.
        SourceError: for an extract with too few rows whose logits are stored.
        TrainingError: when a logit is not finite.
    """
    model = registry.find(warehouse, alias=config.model.alias, model_id=config.model.id)
    artifact = load_artifact(model["location"], model["model_id"])
    check_settings(config, artifact)
    rows = read_labelled_logits(warehouse, artifact, config) if config.extract else None
    new = recalibrate_artifact(artifact, config, rows)
    result = {"model_id": new.model_id, "recalibrated_from": artifact.model_id, **new.facts}
    if new.model_id == artifact.model_id:
        logger.info("nothing to do: the model already has this calibration and these thresholds")
        return result
    out = Path(config.out).resolve()
    write_artifact_files(new.files, out)
    name = config.name or out.name
    registry.register(warehouse, out, config.warehouse.artifact_folder.resolve(), name)
    logger.info(f"registered as {name!r}; promote it with: ptec promote {new.model_id}")
    return {"artifact": str(out), **result}


def check_settings(config: RecalibrateConfig, artifact: Artifact) -> None:
    """Refuse settings that do not suit the model.

    Raises:
        ConfigError: with all errors.
    """
    names = [label.name for label in artifact.manifest.labels]
    errors = [
        f"set_thresholds: the model has no label {name!r}; "
        f"{did_you_mean(name, names, 'its labels are in the table labels')}"
        for name in config.set_thresholds
        if name not in names
    ]
    with collect_errors(errors):
        if config.extract is not None:
            errors += _extract_errors(read_extract_record(config.extract), artifact.manifest)
    with collect_errors(errors):
        check_artifact_folder(Path(config.out).resolve(), config.overwrite)
    if errors:
        raise ConfigError(errors)


def _extract_errors(record: dict[str, Any], manifest: Manifest) -> Iterator[str]:
    """Yield an error for another template, and for labels of the model that are missing."""
    if record["template"] != manifest.template:
        yield (
            f"extract: its template must be that of the model, {manifest.template!r}, was: {record['template']!r}; "
            "make an extract with that one"
        )
    known = {label["name"] for label in record["labels"]}
    if missing := sorted(label.name for label in manifest.labels if label.name not in known):
        yield (
            f"extract: it must have all labels of the model, missing: {', '.join(map(repr, missing))}; lower "
            "labels.min_positives of the extract, or train a model with the extract's labels"
        )


def recalibrate_artifact(artifact: Artifact, config: RecalibrateConfig, rows: LabelledLogits | None) -> Recalibrated:
    """Make the new artifact of a model; without labelled rows, nothing is fitted or measured.

    Raises:
        TrainingError: when a logit is not finite.
    """
    old, names = Decisions.of(artifact.manifest), [label.name for label in artifact.manifest.labels]
    facts: dict[str, Any] = {"set_thresholds": config.set_thresholds}
    files = dict(artifact.files)
    calibrator = artifact.manifest.calibrator
    if rows is None:
        new = old.with_thresholds(names, config.set_thresholds)
        reference = figures_by_label(artifact.metrics)
        for name in reference.keys() & config.set_thresholds.keys():  # how many rows get the label is unknown
            reference[name] = reference[name] | {PREDICTED: None}
    else:
        new = _fit(old, artifact, config, rows.logits, rows.targets)
        facts |= _measure(old, artifact, config, rows)
        reference = _reference(new, rows, names)
        if config.fits:
            keeps_earlier = "keep" in (config.calibrator, config.thresholds)
            files[SEEN] = with_fitted(artifact, rows.hashes, keep_earlier=keeps_earlier)
        calibrator = calibrator if config.calibrator == "keep" else config.calibrator
    made = {"from": artifact.model_id, "calibrator": config.calibrator, "thresholds": config.thresholds, **facts}
    splits = {split: _ranking_figures(report) for split, report in artifact.metrics.get("splits", {}).items()}
    metrics = artifact.metrics | {"splits": splits, "recalibrated": made, REFERENCE: reference}
    files[METRICS] = (json.dumps(metrics, indent=1, ensure_ascii=False) + "\n").encode()
    files = seal(_updated(artifact.manifest, new, calibrator), files)
    return Recalibrated(read_artifact(files).model_id, files, facts)


def _fit(
    old: Decisions,
    artifact: Artifact,
    config: RecalibrateConfig,
    logits: NDArray[np.float64],
    targets: NDArray[np.bool_],
) -> Decisions:
    """Fit to rows what the configuration does not keep.

    A kept threshold stays on the logit: where the calibration changes, its probability moves along.
    """
    names, new = [label.name for label in artifact.manifest.labels], old
    if config.fits:
        fitted = fit_decisions(
            logits,
            targets,
            np.array([artifact.metrics["log_pos_weights"][name] for name in names]),
            calibrator="platt" if config.calibrator == "keep" else config.calibrator,
            thresholds="common" if config.thresholds == "keep" else config.thresholds,
        )
        new = old if config.calibrator == "keep" else old.with_calibration(fitted.calibration)
        if config.thresholds != "keep":
            on_logits = new.calibration.thresholds(fitted.threshold_logits)
            new = Decisions(new.calibration, fitted.common_threshold, on_logits)
    return new.with_thresholds(names, config.set_thresholds)


def _measure(old: Decisions, artifact: Artifact, config: RecalibrateConfig, rows: LabelledLogits) -> dict[str, Any]:
    """Return figures before, and after by five folds, each measured by a fit to the others."""
    probabilities, decided = np.zeros(rows.targets.shape), np.zeros(rows.targets.shape, bool)
    for fitted, held_out in KFold(5, shuffle=True, random_state=0).split(rows.logits):
        part = _fit(old, artifact, config, rows.logits[fitted], rows.targets[fitted])
        probabilities[held_out] = part.calibration.probabilities(rows.logits[held_out])
        decided[held_out] = part.decide(rows.logits[held_out])
    return {
        "split": config.split,
        "rows": len(rows.logits),
        "without_logits": rows.n_without_logits,
        "learned": rows.n_learned,
        "before": _figures(old.calibration.probabilities(rows.logits), old.decide(rows.logits), rows.targets),
        "after": _figures(probabilities, decided, rows.targets),
    }


def _figures(
    probabilities: NDArray[np.float64], decided: NDArray[np.bool_], targets: NDArray[np.bool_]
) -> dict[str, float | None]:
    ece, ece_by_chance, _ = calibration_error(probabilities, targets)
    figures = {"macro_f1": macro_f1(decided, targets), "ece": ece, "ece_by_chance": ece_by_chance}
    return {name: round(value, 6) if np.isfinite(value) else None for name, value in figures.items()}


def _updated(manifest: Manifest, new: Decisions, calibrator: str) -> Manifest:
    """Return a manifest with these decisions, to be sealed."""
    columns = (new.calibration.scale.tolist(), new.calibration.offset.tolist(), new.thresholds.tolist())
    labels = [
        label.model_copy(update={"scale": scale, "offset": offset, "threshold": threshold})
        for label, scale, offset, threshold in zip(manifest.labels, *columns, strict=True)
    ]
    changes = {
        "calibrator": calibrator,
        "threshold_logit": new.common_threshold,
        "curve": new.calibration.curve,
        "labels": labels,
        "created": datetime.now(UTC).replace(microsecond=0),
    }
    return manifest.model_copy(update=changes)


def _reference(new: Decisions, rows: LabelledLogits, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return the distributions that drift compares runs of the new model with: these rows under the new decisions."""
    counts = counts_by_label(new.calibration.probabilities(rows.logits), names)
    predicted = new.decide(rows.logits).sum(axis=0).tolist()
    return {name: {PROBABILITIES: counts[name], PREDICTED: n} for name, n in zip(names, predicted, strict=True)}


def _ranking_figures(report: dict[str, Any]) -> dict[str, Any]:
    """Keep the figures of a training report that do not depend on calibration or thresholds."""

    def unchanged(figures: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in figures.items() if name in _UNCHANGED}

    per_label = {label: unchanged(figures) for label, figures in report.get("per_label", {}).items()}
    return {"overall": unchanged(report.get("overall", {})), "per_label": per_label}
