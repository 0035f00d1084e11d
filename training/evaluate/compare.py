"""The main line of ``ptec evaluate``: champion and challenger score the same held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptec_training.calibrate.decisions import Decisions
from ptec_training.data.dataset import Examples, read_split
from ptec_training.data.folder import read_extract_record
from ptec_training.data.provenance import fitted_by, is_seen, seen_by, sources_of
from ptec_training.evaluate.gate import Comparison, Difference, EvaluateConfig
from ptec_training.evaluate.metrics import average_precision, bootstrap, f1, interval, mean_of_defined, on_all_rows
from ptec_training.evaluate.report import report_on
from ptec_training.methods.trained import artifact_score
from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.log import logger
from ptec_udf.model.artifact import Artifact

FIGURES = ("map", "macro_f1", "micro_f1", "brier_skill", "ece", "ece_by_chance")
CHALLENGER, CHAMPION = "challenger", "champion"


@dataclass(frozen=True)
class ScoredRows:
    """A model's logits and decisions on some rows, *Shape:* ``(n_rows, n_labels)``, and their ``FIGURES``."""

    logits: NDArray[np.floating]
    decided: NDArray[np.bool_]
    figures: dict[str, float | None]


def evaluate(config: EvaluateConfig, challenger: Artifact, champion: Artifact | None) -> Comparison:
    """Compare two models, or measure one where there is no champion; raise a UserError for extracts that do not fit."""
    models = {CHALLENGER: challenger} | ({CHAMPION: champion} if champion else {})
    known, rows, left_out = read_evaluation_rows(config, models)
    of_model = {role: [label.name for label in model.manifest.labels] for role, model in models.items()}
    ours, theirs = of_model[CHALLENGER], of_model.get(CHAMPION, of_model[CHALLENGER])
    shared = [name for name in ours if name in theirs]
    labels = [name for name in shared if name in known]
    if not labels:
        raise ConfigError("both models and the extract must have a label in common, have none; name another extract")
    targets = rows[CHALLENGER].targets[:, [known.index(name) for name in labels]].astype(bool)
    logger.info(f"{len(targets)} rows of {config.split} evaluate {len(labels)} labels")
    scored = {role: _score(model, rows[role].texts, targets, labels) for role, model in models.items()}
    return Comparison(
        n_rows=len(targets),
        left_out=left_out,
        labels=labels,
        unjudged=[name for name in shared if name not in known],
        only_champion=[name for name in theirs if name not in ours],
        only_challenger=[name for name in ours if name not in theirs],
        champion=scored[CHAMPION].figures if champion else {},
        challenger=scored[CHALLENGER].figures,
        differences=differences(scored[CHAMPION], scored[CHALLENGER], targets, labels) if champion else [],
    )


def read_evaluation_rows(
    config: EvaluateConfig, models: Mapping[str, Artifact]
) -> tuple[list[str], dict[str, Examples], dict[str, int]]:
    """Return the labels, the rows that no model has learned, as each model reads them, and left-out rows by reason."""
    folders = {CHALLENGER: config.extract, CHAMPION: config.champion_extract or config.extract}
    records = {role: read_extract_record(folders[role]) for role in models}
    _check_records(models, folders, records)
    rows = {role: read_split(folders[role], config.split) for role in models}
    shared = sorted(set.intersection(*(set(those.keys) for those in rows.values())))
    left_out = {"in one extract only": sum(len(those) - len(shared) for those in rows.values())}
    for role, those in rows.items():
        position = {key: at for at, key in enumerate(those.keys)}
        rows[role] = those.select([position[key] for key in shared])
    is_left_out = np.zeros(len(shared), bool)
    for role, model in models.items():
        is_learned = np.zeros(len(shared), bool)
        # The champion's thresholds may have been fitted to these rows, which favours the champion.
        for seen in (seen_by(model), fitted_by(model) if role == CHALLENGER else None):
            is_learned |= is_seen(seen or {}, records[role], rows[role].keys, rows[role].texts)
        left_out[f"learned by {role}"] = int(is_learned.sum())
        is_left_out |= is_learned
    kept = np.flatnonzero(~is_left_out).tolist()
    if not kept:
        counts = ", ".join(f"{n} {reason}" for reason, n in left_out.items())
        raise SourceError(
            f"rows of {config.split!r} must be in both extracts and learned by no model, none is ({counts}); train the "
            "challenger from this extract, or evaluate the other split"
        )
    names = [label["name"] for label in records[CHALLENGER]["labels"]]
    return names, {role: those.select(kept) for role, those in rows.items()}, left_out


def _check_records(
    models: Mapping[str, Artifact], folders: Mapping[str, str], records: Mapping[str, dict[str, Any]]
) -> None:
    """Refuse models without a record of their training rows, an extract of another template, and two tables."""
    errors = []
    for role, model in models.items():
        setting = "extract" if role == CHALLENGER else "champion_extract"
        if seen_by(model) is None:
            errors.append(f"the {role} must record its training rows, does not: {model.model_id}; train it again")
        if (wanted := model.manifest.template) != (found := records[role]["template"]):
            rule = f"{setting} must be made with the {role}'s template {wanted!r}, {folders[role]!r} has {found!r}"
            errors.append(f"{rule}; make one by ptec extract, then --set evaluate.{setting}=")
    if not set.intersection(*map(sources_of, records.values())):
        named = " and ".join(map(repr, folders.values()))
        errors.append(f"both extracts must be of one table, {named} are not; make one by ptec extract from the other's")
    if errors:
        raise ConfigError(errors)


def _score(artifact: Artifact, texts: Sequence[str], targets: NDArray[np.bool_], labels: Sequence[str]) -> ScoredRows:
    """Score texts with a model and measure some of its labels."""
    own = [label.name for label in artifact.manifest.labels]
    positions = [own.index(label) for label in labels]
    logits, decisions = artifact_score(artifact)(texts)[:, positions], Decisions.of(artifact.manifest).select(positions)
    overall = report_on(logits, targets, decisions.calibration, decisions.thresholds, labels)["overall"]
    return ScoredRows(logits, decisions.decide(logits), {name: overall[name] for name in FIGURES})


def differences(
    champion: ScoredRows, challenger: ScoredRows, targets: NDArray[np.bool_], labels: Sequence[str]
) -> list[Difference]:
    """Compare two models by a paired bootstrap over rows: first over all labels, then in each."""
    sides = (champion, challenger)
    measures = {
        ("map", "ap"): [average_precision(side.logits, targets) for side in sides],
        ("macro_f1", "f1"): [f1(side.decided, targets) for side in sides],
    }
    overall, of_labels = [], []
    for (figure, of_label), pair in measures.items():
        old, new = (on_all_rows(measure, len(targets)) for measure in pair)
        before, after = (bootstrap(measure, len(targets)) for measure in pair)
        samples, means = after - before, (mean_of_defined(old), mean_of_defined(new))
        overall.append(_difference(figure, None, targets, *means, mean_of_defined(samples)))
        for at, label in enumerate(labels):
            of_labels.append(_difference(of_label, label, targets[:, at], old[at], new[at], samples[:, at]))
    return [*overall, *of_labels]


def _difference(
    figure: str, label: str | None, targets: NDArray[np.bool_], old: Any, new: Any, samples: NDArray[np.float64]
) -> Difference:
    values = (old, new, new - old, *interval(samples, float(new - old)))
    rounded = [None if np.isnan(value) else round(float(value), 6) for value in values]
    columns = dict(zip((CHAMPION, CHALLENGER, "difference", "low", "high"), rounded, strict=True))
    return Difference(figure=figure, label=label, positives=int(targets.sum()), **columns)
