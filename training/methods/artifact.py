"""A model that is already trained: it learns nothing more, and scores as ``ptec score`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ptec_udf.engine.result import ERROR
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.errors import ConfigError, TrainingError
from ptec_udf.model.artifact import Artifact, load_artifact
from training.calibrate.decisions import Decisions
from training.data.provenance import fitted_by, seen_by
from training.methods.method import Learned, Method, Score, Task

_BELOW_THRESHOLD = 20.0  # logits of an empty text lie this far below the thresholds


class PretrainedArtifact(Method):
    """An artifact of ``ptec train`` on the same extract."""

    deployable: ClassVar[bool] = True

    method: Literal["artifact"] = "artifact"
    folder: str = Field(min_length=1, description="folder of the artifact")

    def facts(self) -> dict[str, Any]:
        """Name the model, since another one may replace it in the folder."""
        return {**super().facts(), "model_id": load_artifact(Path(self.folder)).model_id}

    def check(self, task: Task) -> None:
        """Refuse a model that may have learned from the evaluated rows.

        Raises:
            ArtifactError: for a folder without a whole artifact.
            ConfigError: for a model of another extract, or one whose thresholds were fitted after training.
        """
        made = load_artifact(Path(self.folder))
        if made.manifest.extract.fingerprint != task.record["fingerprint"]:
            raise ConfigError(
                f"an artifact must be trained from the extract {str(task.extract)!r}, was not: {self.folder!r}; its "
                "training rows may be evaluated here"
            )
        if fitted_by(made) is not None:
            raise ConfigError(
                f"an artifact must not be fitted to held-out rows after training, {self.folder!r} was; name the one "
                "that it was made from"
            )

    def learn(self, task: Task) -> Learned:
        """Load the artifact.

        Raises:
            BackboneError: for a backbone that is missing or differs.
        """
        self.check(task)
        return load_learned(load_artifact(Path(self.folder)))


def load_learned(artifact: Artifact) -> Learned:
    """Return an artifact as a method that has learned.

    Raises:
        ArtifactError, BackboneError: for a model that cannot be loaded.
    """
    seconds = artifact.metrics.get("learning", {}).get("seconds")
    return Learned(_scorer(artifact), Decisions.of(artifact.manifest), seconds, seen_by(artifact))


def score_texts(artifact: Artifact, texts: Sequence[str]) -> NDArray[np.floating]:
    """Return an artifact's logits, *Shape:* ``(n_texts, n_labels)``.

    Raises:
        ArtifactError, BackboneError: for a model that cannot be loaded.
        TrainingError: when a text cannot be scored.
    """
    return _scorer(artifact)(texts)


def _scorer(artifact: Artifact) -> Score:
    scorer = load_scorer(artifact)
    empty = Decisions.of(artifact.manifest).threshold_logits - _BELOW_THRESHOLD

    def score(texts: Sequence[str]) -> NDArray[np.floating]:
        scored = scorer.score(texts)
        if n_failed := sum(text.status == ERROR for text in scored):
            raise TrainingError(f"all texts must be scored, {n_failed} of {len(texts)} failed; run ptec score on them")
        return np.stack([empty if text.logits is None else text.logits for text in scored])

    return score
