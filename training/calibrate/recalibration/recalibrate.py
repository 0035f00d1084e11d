"""From a registered model to one that makes other probabilities and labels of the same logits.

The new artifact has the same backbone, adapter and head, and so the same ``logits_id``. The next night under it
takes the logits that are stored and runs no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ptec_udf.errors import ArtifactError, ConfigError, SourceError, did_you_mean
from ptec_udf.log import logger
from ptec_udf.model.artifact import Artifact, load_artifact
from ptec_udf.model.artifact_format import MANIFEST, METRICS, SEEN, seal
from ptec_udf.monitor.training import REFERENCE
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse
from training.artifact_folder import check_out, write_files
from training.calibrate.recalibration.config import RecalibrateConfig
from training.calibrate.recalibration.measure import cross_fitted, measured, ranking_only, reference_kept, reference_of
from training.calibrate.recalibration.parameters import KEEP, Parameters, log_pos_weights
from training.calibrate.recalibration.rows import LabelledLogits, labelled_logits
from training.data.folder import read_extract_record
from training.data.provenance import with_fitted
from training.folders import followed


@dataclass(frozen=True, eq=False)
class Recalibrated:
    """Files of the new artifact with its id, and what was measured before and after."""

    model_id: str
    files: dict[str, bytes]
    facts: dict[str, Any]


def recalibrate(warehouse: Warehouse, config: RecalibrateConfig) -> dict[str, Any]:
    """Write and register an artifact with other calibration or thresholds; no alias moves.

    Returns:
        model_id, artifact folder, the model it was made from, and the facts that its metrics tell too.

    Raises:
        ConfigError: for all faults of the configuration, seen beside the model and the extract, at once.
        RegistryError: if there is no such model.
        ArtifactError: if the model's artifact is broken.
        SourceError: for an extract with too few rows whose logits are stored.
        TrainingError: when a logit is not finite.
    """
    choice = config.model
    model = registry.find(warehouse, alias=choice.alias, model_id=choice.id)
    artifact = load_artifact(model["location"], model["model_id"])
    earlier = _unregistered(warehouse, config)
    check(config, artifact, goes_on=earlier is not None)
    rows = labelled_logits(warehouse, artifact, config) if config.extract else None
    new = recalibrated(artifact, config, rows)
    result = {"model_id": new.model_id, "recalibrated_from": artifact.model_id, **new.facts}
    if new.model_id == artifact.model_id:
        logger.info("nothing to do: calibration and thresholds are those of the model already; nothing was written")
        return result
    out = followed(Path(config.out))
    if earlier not in (None, new.model_id):
        check_out(out, config.overwrite)
    write_files(new.files, out)
    name = config.name or out.resolve().name
    registry.register(warehouse, out, config.warehouse.artifact_folder.resolve(), name)
    logger.info(f"registered as {name!r}; no alias points to it before ptec promote {new.model_id}")
    return {"artifact": str(out), **result}


def _unregistered(warehouse: Warehouse, config: RecalibrateConfig) -> str | None:
    """Name the model in the folder ``out`` that was not registered, as a kill between the two leaves it."""
    try:
        model_id = load_artifact(config.out).model_id
    except ArtifactError:
        return None
    return None if registry.is_registered(warehouse, model_id) else model_id


def check(config: RecalibrateConfig, artifact: Artifact, *, goes_on: bool = False) -> None:
    """Refuse what does not suit the model.

    Args:
        config: the configuration.
        artifact: the model.
        goes_on: whether the folder ``out`` holds what a killed recalibration may have left, which is looked at later.

    Raises:
        ConfigError: naming all faults.
    """
    faults = [*_label_faults(config, artifact), *_extract_faults(config, artifact)]
    try:
        check_out(followed(Path(config.out)), config.overwrite or goes_on)
    except ConfigError as error:
        faults += error.errors
    if faults:
        raise ConfigError(faults)


def recalibrated(artifact: Artifact, config: RecalibrateConfig, rows: LabelledLogits | None) -> Recalibrated:
    """Make the new artifact of a model.

    Args:
        artifact: the model.
        config: what to fit, keep and set.
        rows: labelled rows with logits; None: nothing is fitted or measured.

    Raises:
        TrainingError: when a logit is not finite.
    """
    new, facts, reference = _set(artifact, config) if rows is None else _fitted(artifact, config, rows)
    facts = {"set_thresholds": config.set_thresholds, **facts}
    made = {"from": artifact.model_id, "calibrator": config.calibrator, "thresholds": config.thresholds, **facts}
    metrics = artifact.metrics | {
        "splits": ranking_only(artifact.metrics.get("splits", {})),
        "recalibrated": made,
        REFERENCE: reference,
        "fitted_splits": _fitted_splits(artifact, config, fits=rows is not None),
    }
    metrics.pop("identity", None)  # it is not what that training would make
    files = {name: data for name, data in artifact.files.items() if name != MANIFEST}
    if rows is not None and _fits(config):
        files[SEEN] = with_fitted(artifact, rows.hashes, beside_earlier=_keeps_some(config))
    files[METRICS] = (json.dumps(metrics, indent=1, ensure_ascii=False) + "\n").encode()
    manifest = new.put_into(artifact.manifest)
    manifest = manifest.model_copy(update={"created": datetime.now(UTC).isoformat(timespec="seconds")})
    sealed, files[MANIFEST] = seal(manifest, files)
    return Recalibrated(sealed.model_id, files, facts)


def _set(artifact: Artifact, config: RecalibrateConfig) -> tuple[Parameters, dict[str, Any], dict[str, Any]]:
    """Set thresholds by hand; return parameters, no facts, and what drift is held against."""
    names = [label.name for label in artifact.manifest.labels]
    old = Parameters.of(artifact.manifest)
    new = old.with_thresholds(names, config.set_thresholds)
    changed = [names[at] for at in np.flatnonzero(new.thresholds != old.thresholds)]
    return new, {}, reference_kept(artifact.metrics, changed)


def _fitted(
    artifact: Artifact, config: RecalibrateConfig, rows: LabelledLogits
) -> tuple[Parameters, dict[str, Any], dict[str, Any]]:
    """Fit to rows; return parameters, what was fitted and measured, and what drift is held against."""
    names = [label.name for label in artifact.manifest.labels]
    present, weights = Parameters.of(artifact.manifest), log_pos_weights(artifact)

    def fit(logits: Any, targets: Any) -> tuple[Parameters, dict[str, Any]]:
        fitted, report = present.fitted(logits, targets, weights, config)
        return fitted.with_thresholds(names, config.set_thresholds), report

    new, report = fit(rows.logits, rows.targets)
    keeps_all = config.calibrator == config.thresholds == KEEP
    facts = {
        "split": config.split,
        "rows": len(rows.logits),
        "left_out": rows.left_out,
        "learned": rows.learned,
        "chosen": report,
        "before": measured(present, rows),
        "after": measured(new, rows) if keeps_all else cross_fitted(lambda *some: fit(*some)[0], rows),
    }
    return new, facts, reference_of(new, rows, names)


def _fitted_splits(artifact: Artifact, config: RecalibrateConfig, *, fits: bool) -> list[str]:
    """Name the splits whose rows the new parameters were fitted to, by this or an earlier recalibration."""
    fits = fits and _fits(config)
    earlier = artifact.metrics.get("fitted_splits", []) if _keeps_some(config) or not fits else []
    return sorted({*earlier, *([config.split] if fits else [])})


def _fits(config: RecalibrateConfig) -> bool:
    """Tell whether anything is fitted, if there are rows."""
    return not config.calibrator == config.thresholds == KEEP


def _keeps_some(config: RecalibrateConfig) -> bool:
    """Tell whether calibration or thresholds stay as they were fitted earlier."""
    return KEEP in (config.calibrator, config.thresholds)


def _label_faults(config: RecalibrateConfig, artifact: Artifact) -> Iterator[str]:
    """Name the labels that get a threshold and are not the model's."""
    names = [label.name for label in artifact.manifest.labels]
    for name in config.set_thresholds:
        if name not in names:
            hint = did_you_mean(name, names, "its labels are in the table labels")
            yield f"set_thresholds: the model has no label {name!r}; {hint}"


def _extract_faults(config: RecalibrateConfig, artifact: Artifact) -> Iterator[str]:
    """Say why an extract's rows cannot fit the model."""
    if config.extract is None:
        return
    try:
        record = read_extract_record(config.extract)
    except SourceError as error:
        yield from error.errors
        return
    if record["template"] != artifact.manifest.template:
        yield (
            f"extract: its template must be that of the model, {artifact.manifest.template!r}, "
            f"was: {record['template']!r}; make an extract with that one"
        )
    known = {label["name"] for label in record["labels"]}
    if lacking := sorted(label.name for label in artifact.manifest.labels if label.name not in known):
        yield (
            f"extract: it must tell all labels of the model, it lacks: {', '.join(map(repr, lacking))}; "
            "lower labels.min_positives of the extract, or train a model with the extract's labels"
        )
