"""The rows that judge: those that both models can read and neither has learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.log import logger
from ptec_udf.model.artifact import Artifact
from training.data.dataset import Examples, read_judging
from training.data.folder import read_extract_record
from training.data.provenance import fitted_by, is_seen, seen_by, sources_of
from training.evaluate.config import EvaluateConfig

IN_ONE_EXTRACT = "in one extract only"


@dataclass(frozen=True)
class Side:
    """A model and an extract that it can read.

    Attributes:
        who: challenger or champion.
        made: the model.
        setting: that names the extract.
        folder: of the extract.
        record: of the extract.
    """

    who: str
    made: Artifact
    setting: str
    folder: str
    record: dict[str, Any]

    def learned(self, rows: Examples) -> NDArray[np.bool_] | None:
        """Say of each row whether the model has learned from it; None where that cannot be known."""
        seen = seen_by(self.made)
        if seen is not None:
            return is_seen(seen, self.record, rows.keys, rows.texts)
        # Dev and test of its own extract are not learned from, but a model that it started from may have done so.
        is_own = self.made.manifest.extract.fingerprint == self.record["fingerprint"]
        is_first = not self.made.metrics.get("started_from")
        return np.zeros(len(rows), bool) if is_own and is_first else None

    def n_fitted(self, rows: Examples, split: str) -> int:
        """Count rows that the model's calibration or thresholds were fitted to after its training."""
        if (fitted := fitted_by(self.made)) is not None:
            return int(is_seen(fitted, self.record, rows.keys, rows.texts).sum())
        return len(rows) if split in self.made.metrics.get("fitted_splits", []) else 0


@dataclass(frozen=True)
class Judging:
    """The rows that judge.

    Attributes:
        names: the extract's labels, in the order of the targets.
        rows: with the challenger's texts.
        champion_texts: the same rows as the champion reads them.
        left_out: numbers of rows that do not judge, by the reason.
        held_out: whether the challenger is known not to have learned from them.
    """

    names: list[str]
    rows: Examples
    champion_texts: list[str]
    left_out: dict[str, int]
    held_out: bool


def sides(config: EvaluateConfig, challenger: Artifact, champion: Artifact | None) -> list[Side]:
    """Give each model its extract; the challenger first.

    Raises:
        SourceError: for an extract that cannot be used.
        ConfigError: for one that was made with another template than a model's, or from another table.
    """
    found = [Side("challenger", challenger, "extract", config.extract, read_extract_record(config.extract))]
    if champion is not None:
        other = config.champion_extract or config.extract
        found.append(Side("champion", champion, "champion_extract", other, read_extract_record(other)))
    faults = [
        f"{side.setting} must be made with the {side.who}'s template {side.made.manifest.template!r}, "
        f"{side.folder!r} has {side.record['template']!r}; make one by ptec extract, then --set {side.setting}="
        for side in found
        if side.made.manifest.template != side.record["template"]
    ]
    if not set.intersection(*(sources_of(side.record) for side in found)):
        faults.append(
            f"both extracts must be of one table, {config.extract!r} and {config.champion_extract!r} are not: a row "
            "would be two companies; make one by ptec extract from the other's table"
        )
    elif len({side.record["source_id"] for side in found}) > 1:
        logger.info(
            f"the extracts are of two tables that were called {found[0].record['name']!r}: they are taken for one that "
            "was replaced in place, whose keys name the same companies"
        )
    if not faults and len({side.record["version"] for side in found}) > 1:
        logger.info(
            f"the extracts are of two versions of the table, {[side.record['version'] for side in found]}: where a "
            "company's text has changed in between, the two models read different ones"
        )
    if faults:
        raise ConfigError(faults)
    return found


def judging_rows(sides: Sequence[Side], split: str, max_learned: float) -> Judging:
    """Read the rows of both extracts, match them by key, and leave out what either model has learned from.

    Args:
        sides: the challenger and, where there is one, the champion.
        split: rows that judge.
        max_learned: share of the rows that may be left out because they were learned from.

    Raises:
        SourceError: where no row stands in both, or more were learned from than may be left out.
    """
    whole = [read_judging(side.folder, split) for side in sides]
    there = set(whole[0].keys).intersection(*(rows.keys for rows in whole))
    matched = [_only(rows, [key in there for key in rows.keys]) for rows in whole]  # both in the order of their keys
    if not there:
        raise SourceError(f"rows of {split!r} must stand in both extracts, none does; make both from the same table")
    learned = {side.who: side.learned(rows) for side, rows in zip(sides, matched, strict=True)}
    for who in (who for who, rows in learned.items() if rows is None):
        logger.info(f"whether the {who} has learned from rows that judge cannot be known: its artifact does not say")
    is_left_out = np.any([rows for rows in learned.values() if rows is not None] or np.zeros((1, len(there))), axis=0)
    left_out = {f"learned by {who}": 0 if rows is None else int(rows.sum()) for who, rows in learned.items()}
    if is_left_out.sum() > max_learned * len(there):
        raise SourceError(_advice(left_out, len(there), split, max_learned))
    judging, *others = [_only(rows, ~is_left_out) for rows in matched]
    fitted = [side.n_fitted(rows, split) for side, rows in zip(sides, [judging, *others], strict=True)]
    for side, n_fitted in zip(sides, fitted, strict=True):
        if n_fitted:
            what = f"{n_fitted} of {len(judging)} rows of {split}"
            logger.info(f"the {side.who}'s thresholds were fitted to {what}, which flatter it; judge by others")
    return Judging(
        names=[label["name"] for label in sides[0].record["labels"]],
        rows=judging,
        champion_texts=others[0].texts if others else [],
        left_out={**left_out, IN_ONE_EXTRACT: sum(map(len, whole)) - len(sides) * len(there)},
        held_out=learned["challenger"] is not None and not fitted[0],
    )


def _only(rows: Examples, kept: Sequence[bool] | NDArray[np.bool_]) -> Examples:
    """Keep some rows, in their order."""
    at = np.flatnonzero(kept)
    return Examples([rows.keys[i] for i in at], [rows.texts[i] for i in at], rows.targets[at])


def _advice(learned: dict[str, int], n_rows: int, split: str, max_learned: float) -> str:
    counts = ", ".join(f"{count} were {reason}" for reason, count in learned.items())
    return (
        f"rows that judge must not have been learned from, but for a share of {max_learned:g} that is left out; of "
        f"{n_rows} rows of {split!r} {counts}; train the challenger from this extract, and keep companies in their "
        "split from one extract to the next, for instance by split.column"
    )
