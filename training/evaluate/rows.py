"""The evaluation rows: rows that both models can read and neither has learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.log import logger
from ptec_udf.model.artifact import Artifact
from training.data.dataset import Examples, read_split
from training.data.folder import read_extract_record
from training.data.provenance import fitted_by, is_seen, seen_by, sources_of
from training.evaluate.config import EvaluateConfig

ONE_EXTRACT_ONLY = "in one extract only"


@dataclass(frozen=True)
class Candidate:
    """A model and an extract that it can read.

    Attributes:
        role: challenger or champion.
        artifact: the model.
        setting: that names the extract.
        folder: of the extract.
        record: of the extract.
    """

    role: str
    artifact: Artifact
    setting: str
    folder: str
    record: dict[str, Any]

    def has_learned(self, rows: Examples) -> NDArray[np.bool_] | None:
        """Return for each row whether the model has learned from it; None where the artifact does not record it."""
        seen = seen_by(self.artifact)
        if seen is not None:
            return is_seen(seen, self.record, rows.keys, rows.texts)
        is_own = self.artifact.manifest.extract.fingerprint == self.record["fingerprint"]
        return np.zeros(len(rows), bool) if is_own else None  # dev and test of its own extract are held out

    def n_fitted(self, rows: Examples) -> int:
        """Count rows that calibration or thresholds were fitted to after training."""
        fitted = fitted_by(self.artifact)
        return 0 if fitted is None else int(is_seen(fitted, self.record, rows.keys, rows.texts).sum())


@dataclass(frozen=True)
class EvaluationRows:
    """The rows that are evaluated.

    Attributes:
        names: the extract's labels, in the order of the targets.
        rows: with the challenger's texts.
        champion_texts: the same rows as the champion reads them.
        left_out: numbers of rows that are left out, by reason.
        held_out: whether the challenger is known not to have learned from the rows.
    """

    names: list[str]
    rows: Examples
    champion_texts: list[str]
    left_out: dict[str, int]
    held_out: bool


def find_candidates(config: EvaluateConfig, challenger: Artifact, champion: Artifact | None) -> list[Candidate]:
    """Pair each model with its extract; the challenger first.

    Raises:
        SourceError: for an extract that cannot be used.
        ConfigError: for an extract of another template than its model's, or of another table.
    """
    found = [Candidate("challenger", challenger, "extract", config.extract, read_extract_record(config.extract))]
    if champion is not None:
        folder = config.champion_extract or config.extract
        found.append(Candidate("champion", champion, "champion_extract", folder, read_extract_record(folder)))
    errors = [
        f"{one.setting} must be made with the {one.role}'s template {one.artifact.manifest.template!r}, "
        f"{one.folder!r} has {one.record['template']!r}; make one by ptec extract, then --set {one.setting}="
        for one in found
        if one.artifact.manifest.template != one.record["template"]
    ]
    if not set.intersection(*(sources_of(one.record) for one in found)):
        errors.append(
            f"both extracts must be of one table, {config.extract!r} and {config.champion_extract!r} are not; make one "
            "by ptec extract from the other's table"
        )
    if errors:
        raise ConfigError(errors)
    if len(versions := sorted({one.record["version"] for one in found})) > 1:
        logger.info(f"the extracts are of table versions {versions}: changed texts differ between the models")
    return found


def read_evaluation_rows(candidates: Sequence[Candidate], split: str, max_learned: float) -> EvaluationRows:
    """Read the rows of both extracts, match them by key, and leave out what either model has learned from.

    Args:
        candidates: the challenger and, if there is one, the champion.
        split: evaluated rows.
        max_learned: largest share of rows that may be left out.

    Raises:
        SourceError: where the extracts share no row, or more rows were learned from than may be left out.
    """
    whole = [read_split(one.folder, split) for one in candidates]
    shared = set(whole[0].keys).intersection(*(rows.keys for rows in whole))
    if not shared:
        raise SourceError(f"rows of {split!r} must be in both extracts, none is; make both from the same table")
    matched = [rows.select([at for at, key in enumerate(rows.keys) if key in shared]) for rows in whole]
    learned = {one.role: one.has_learned(rows) for one, rows in zip(candidates, matched, strict=True)}
    for role in (role for role, rows in learned.items() if rows is None):
        logger.info(f"the {role}'s artifact does not record its training rows: they may be among these")
    known = [rows for rows in learned.values() if rows is not None]
    is_left_out = np.any(known, axis=0) if known else np.zeros(len(shared), bool)
    left_out = {f"learned by {role}": 0 if rows is None else int(rows.sum()) for role, rows in learned.items()}
    if is_left_out.sum() > max_learned * len(shared):
        counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise SourceError(
            f"at most {max_learned:.0%} of the rows of {split!r} may have been learned from (max_learned), of "
            f"{len(shared)} were: {counts}; train the challenger from this extract, and fix the split by split.column"
        )
    kept = [rows.select(np.flatnonzero(~is_left_out).tolist()) for rows in matched]
    fitted = [one.n_fitted(rows) for one, rows in zip(candidates, kept, strict=True)]
    for one, n in zip(candidates, fitted, strict=True):
        if n:
            logger.info(f"the {one.role}'s thresholds were fitted to {n} of {len(kept[0])} rows of {split}")
    return EvaluationRows(
        names=[label["name"] for label in candidates[0].record["labels"]],
        rows=kept[0],
        champion_texts=kept[-1].texts if len(kept) > 1 else [],
        left_out={**left_out, ONE_EXTRACT_ONLY: sum(map(len, whole)) - len(candidates) * len(shared)},
        held_out=learned["challenger"] is not None and not fitted[0],
    )
