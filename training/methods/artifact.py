"""A model that is trained already: it learns nothing more, and scores as ``ptec score`` does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ptec_udf.engine.result import ERROR
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.errors import ConfigError, SourceError, TrainingError
from ptec_udf.model.artifact import Artifact, load_artifact
from training.calibrate.decide import Decisions
from training.data.provenance import seen_by
from training.flops import flop_of_scoring
from training.methods.method import Learned, Method, Task
from training.search.config import RESULTS

_FAR = 20.0

Search = Annotated[
    str | None,
    Field(min_length=1, description="folder of the ptec search that chose the settings; what its trials took is added"),
]


class Trained(Method):
    """An artifact from the same extract."""

    deployable: ClassVar[bool] = True

    method: Literal["artifact"] = "artifact"
    folder: str = Field(min_length=1, description="folder that ptec train wrote")
    search: Search = None

    def facts(self) -> dict[str, Any]:
        """Name the model and not only its folder, where another may come to lie."""
        return {**super().facts(), "model_id": load_artifact(Path(self.folder)).model_id}

    def check(self, task: Task) -> None:
        """Refuse a model, or a search, that may have learned from the rows that judge.

        Raises:
            ArtifactError: for a folder that holds no whole artifact.
            ConfigError: for a model of another extract, or one that does not say what it has learned from.
            SourceError: for a search of another extract, or without results.
        """
        made = load_artifact(Path(self.folder))
        cost_of_search(self.search, task.extract_fingerprint)
        if made.manifest.extract.fingerprint != task.extract_fingerprint:
            raise ConfigError(
                f"an artifact must be trained from the extract {str(task.extract)!r}, was not: {self.folder!r}; "
                "it may have learned from rows that judge here"
            )
        if splits := made.metrics.get("fitted_splits"):
            raise ConfigError(
                f"an artifact must not have been fitted to held-out rows after its training, {self.folder!r} was, to "
                f"{', '.join(splits)}; name the one that it was made from"
            )
        if seen_by(made) is None and made.metrics.get("started_from"):
            raise ConfigError(
                f"an artifact that started from another must say what it has learned from, {self.folder!r} does not; "
                "it may have learned from rows that judge here; train it again from one that says so"
            )

    def learn(self, task: Task) -> Learned:
        """Load.

        Raises:
            BackboneError: for a backbone that is missing or another one.
        """
        self.check(task)  # another model may lie there by now
        made = load_artifact(Path(self.folder))
        searched = cost_of_search(self.search, task.extract_fingerprint)
        return replace(learned_artifact(made, searched), seen=seen_by(made))


def learned_artifact(made: Artifact, searched: Sequence[Mapping[str, Any]] = ()) -> Learned:
    """Return scores, decisions and costs of an artifact.

    Args:
        made: the model.
        searched: ``seconds`` and ``flop`` of each trial that chose its settings.

    Raises:
        ArtifactError, BackboneError: for a model that cannot be loaded.
    """
    scorer = load_scorer(made)
    decisions = Decisions.of(made.manifest)
    no_label = decisions.threshold_logits - _FAR  # of an empty text, which has no logits

    def score(texts: Sequence[str]) -> NDArray[np.floating]:
        scored = scorer.score(texts)
        if failed := sum(text.status == ERROR for text in scored):
            raise TrainingError(
                f"all texts must be scored, {failed} of {len(texts)} failed; look at them by ptec score"
            )
        return np.stack([no_label if text.logits is None else text.logits for text in scored])

    spent = [made.metrics.get("learning", {}), *searched]  # artifacts of old do not tell
    seconds, flop = ([one.get(name) for one in spent] for name in ("seconds", "flop"))
    return Learned(
        score,
        decisions,
        seconds=_sum(seconds),
        flop=_sum(flop),
        flop_of_scoring=lambda texts: flop_of_scoring(scorer, texts),
    )


def cost_of_search(search: str | None, extract_fingerprint: str) -> list[dict[str, Any]]:
    """Return ``seconds`` and ``flop`` of each trial of a search; without a search there are none.

    Raises:
        SourceError: for a search without results, or of another extract, whose train may hold rows that judge.
    """
    if search is None:
        return []
    try:
        found = json.loads((Path(search) / RESULTS).read_text(encoding="utf-8"))
        trials, fingerprint = [dict(trial) for trial in found["trials"]], found["extract"]
    except (OSError, ValueError, TypeError, KeyError):
        raise SourceError(
            f"search must be a folder that ptec search has ended in, {search!r} has no {RESULTS} of this version"
        ) from None
    if fingerprint != extract_fingerprint:
        raise SourceError(f"search must be of the extract that is compared on, {search!r} is of another")
    return trials


def _sum(values: list[float | None]) -> float | None:
    """Add up; what is not known in part is not known."""
    known = [value for value in values if value is not None]
    return float(sum(known)) if len(known) == len(values) else None
