"""A model that is trained already: it learns nothing more, and scores as ``ptec score`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import logit

from ptec_udf.engine.scorer import ERROR, Scorer
from ptec_udf.errors import ConfigError, TrainingError
from ptec_udf.model.artifact import Artifact, load_artifact
from ptec_udf.model.backbone import resolve
from training.decisions.calibrate import Calibration
from training.decisions.decide import Decisions
from training.methods.method import Learned, Method, Task

_FAR = 20.0


class Trained(Method):
    """An artifact of ``ptec train``, from the same extract."""

    deployable: ClassVar[bool] = True

    method: Literal["artifact"] = "artifact"
    folder: str = Field(min_length=1, description="folder that ptec train wrote")

    def facts(self) -> dict[str, Any]:
        """Name the model and not only its folder, where another may come to lie."""
        return {**super().facts(), "model_id": load_artifact(Path(self.folder)).model_id}

    def learn(self, task: Task) -> Learned:
        """Load.

        Raises:
            ArtifactError: for a folder that holds no whole artifact.
            BackboneError: for a backbone that is missing or another one.
            ConfigError: for a model of another extract, which may have seen the rows that judge.
        """
        made = load_artifact(Path(self.folder))
        if made.manifest.extract.fingerprint != task.extract_fingerprint:
            raise ConfigError(
                f"an artifact must be trained from the extract {str(task.extract)!r}, was not: {self.folder!r}; "
                "it may have learned from rows that judge here"
            )
        return learned_artifact(made)


def learned_artifact(made: Artifact) -> Learned:
    """Return scores and decisions of an artifact."""
    named = resolve(made.manifest.backbone.name)
    named.check(made.manifest.backbone.content_hash)
    scorer = Scorer.from_artifact(made, *named.load())
    labels = made.manifest.labels
    scale, offset = (np.array([getattr(label, name) for label in labels]) for name in ("scale", "offset"))
    thresholds = (logit([label.threshold for label in labels]) - offset) / scale
    no_label = thresholds - _FAR  # of an empty text, which has no logits

    def score(texts: Sequence[str]) -> NDArray[np.floating]:
        scored = scorer.score(texts)
        if failed := sum(text.status == ERROR for text in scored):
            raise TrainingError(
                f"all texts must be scored, {failed} of {len(texts)} failed; look at them by ptec score"
            )
        return np.stack([no_label if text.logits is None else text.logits for text in scored])

    return Learned(score, Decisions(Calibration(scale, offset), made.manifest.threshold_logit, thresholds))
