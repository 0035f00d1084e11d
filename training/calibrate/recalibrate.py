"""Derive a model with other probabilities and labels from the logits of a registered model.

The new artifact has the same backbone, adapter and head, and so the same ``logits_id``. Its first run takes the stored
logits and does not run the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from ptec_training.calibrate.config import RecalibrateConfig
from ptec_training.calibrate.decisions import Decisions, fit_decisions
from ptec_training.calibrate.labelled_logits import LabelledLogits, read_labelled_logits
from ptec_training.data.folder import read_extract_record
from ptec_training.data.provenance import with_fitted
from ptec_training.evaluate.metrics import calibration_error, macro_f1
from ptec_training.evaluate.report import counts_by_label
from ptec_udf.errors import ConfigError, collect_errors, did_you_mean
from ptec_udf.log import logger
from ptec_udf.model.artifact import METRICS, SEEN, Artifact, load_artifact, read_artifact, seal
from ptec_udf.model.folders import check_artifact_folder, write_artifact_files
from ptec_udf.model.manifest import Manifest
from ptec_udf.monitor.training import PREDICTED, PROBABILITIES, REFERENCE, figures_by_label
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse

_UNCHANGED = {"n_rows", "n_labels", "n_labels_that_occur", "positives", "map", "ap"}


def recalibrate(warehouse: Warehouse, config: RecalibrateConfig) -> dict[str, Any]:
    """Write and register an artifact with other calibration or thresholds, and return facts; no alias moves."""
    model = registry.find(warehouse, alias=config.model.alias, model_id=config.model.id)
    artifact = load_artifact(model["location"], model["model_id"])
    check_settings(config, artifact)
    rows = read_labelled_logits(warehouse, artifact, config) if config.extract else None
    files, facts = recalibrate_artifact(artifact, config, rows)
    model_id = read_artifact(files).model_id
    result = {"model_id": model_id, "recalibrated_from": artifact.model_id, **facts}
    if model_id == artifact.model_id:
        logger.info("nothing to do: the model already has this calibration and these thresholds")
        return result
    out = Path(config.out).resolve()
    write_artifact_files(files, out)
    name = config.name or out.name
    registry.register(warehouse, out, config.warehouse.artifact_folder.resolve(), name)
    logger.info(f"registered as {name!r}; promote it with: ptec promote {model_id}")
    return {"artifact": str(out), **result}


def check_settings(config: RecalibrateConfig, artifact: Artifact) -> None:
    """Refuse settings that do not suit the model with a ConfigError that has all errors."""
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


def recalibrate_artifact(
    artifact: Artifact, config: RecalibrateConfig, rows: LabelledLogits | None
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Make the files of the new artifact, and facts; without labelled rows, nothing is fitted or measured."""
    names = [label.name for label in artifact.manifest.labels]
    facts: dict[str, Any] = {"set_thresholds": config.set_thresholds}
    files = dict(artifact.files)
    if rows is None:
        new = Decisions.of(artifact.manifest).with_thresholds(names, config.set_thresholds)
        reference = figures_by_label(artifact.metrics)
        for name in reference.keys() & config.set_thresholds.keys():  # how many rows get the label is unknown
            reference[name] = reference[name] | {PREDICTED: None}
    else:
        new = _fit(artifact, config, rows.logits, rows.targets)
        facts |= {"thresholds": config.thresholds, **_measure(artifact, config, rows)}
        # Drift compares runs of the new model with these rows under the new decisions.
        counts = counts_by_label(new.calibration.probabilities(rows.logits), names)
        predicted = new.decide(rows.logits).sum(axis=0).tolist()
        reference = {
            name: {PROBABILITIES: counts[name], PREDICTED: n} for name, n in zip(names, predicted, strict=True)
        }
        files[SEEN] = with_fitted(artifact, rows.hashes)
    made = {"from": artifact.model_id, **facts}
    splits = {split: _ranking_figures(report) for split, report in artifact.metrics.get("splits", {}).items()}
    metrics = artifact.metrics | {"splits": splits, "recalibrated": made, REFERENCE: reference}
    files[METRICS] = (json.dumps(metrics, indent=1, ensure_ascii=False) + "\n").encode()
    return seal(_updated(artifact.manifest, new), files), facts


def _fit(
    artifact: Artifact, config: RecalibrateConfig, logits: NDArray[np.float64], targets: NDArray[np.bool_]
) -> Decisions:
    names = [label.name for label in artifact.manifest.labels]
    log_weights = np.array([artifact.metrics["log_pos_weights"][name] for name in names])
    fitted = fit_decisions(logits, targets, log_weights, config.thresholds)
    return fitted.with_thresholds(names, config.set_thresholds)


def _measure(artifact: Artifact, config: RecalibrateConfig, rows: LabelledLogits) -> dict[str, Any]:
    """Return figures before, and after by five folds, each measured by a fit to the others."""
    old, probabilities = Decisions.of(artifact.manifest), np.zeros(rows.targets.shape)
    decided = np.zeros(rows.targets.shape, bool)
    for fitted, held_out in KFold(5, shuffle=True, random_state=0).split(rows.logits):
        part = _fit(artifact, config, rows.logits[fitted], rows.targets[fitted])
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


def _updated(manifest: Manifest, new: Decisions) -> Manifest:
    """Return a manifest with these decisions, to be sealed."""
    columns = (new.calibration.scale.tolist(), new.calibration.offset.tolist(), new.thresholds.tolist())
    labels = [
        label.model_copy(update={"scale": scale, "offset": offset, "threshold": threshold})
        for label, scale, offset, threshold in zip(manifest.labels, *columns, strict=True)
    ]
    created = datetime.now(UTC).replace(microsecond=0)
    return manifest.model_copy(update={"labels": labels, "threshold_logit": new.common_threshold, "created": created})


def _ranking_figures(report: dict[str, Any]) -> dict[str, Any]:
    """Keep the figures of a report that other calibration and thresholds leave as they are."""

    def unchanged(figures: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in figures.items() if name in _UNCHANGED}

    per_label = {label: unchanged(figures) for label, figures in report.get("per_label", {}).items()}
    return {"overall": unchanged(report.get("overall", {})), "per_label": per_label}
