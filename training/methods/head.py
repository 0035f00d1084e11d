"""A classification head on frozen embeddings: PTEC without its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.preprocessing import StandardScaler

from ptec_udf.model.backbone import resolve
from ptec_udf.model.manifest import BackboneRef
from training.config import LossConfig
from training.data.dataset import Examples
from training.fit.head import MIN_RELATIVE_DEVIATION
from training.fit.loss import positive_weights
from training.methods.embedding import EmbeddingMethod
from training.methods.linear import Basis, Linear, Penalties


class Head(EmbeddingMethod, Linear):
    """A linear layer with PTEC's weights of positives on standardised embeddings."""

    solver: ClassVar[dict[str, Any]] = {"max_iter": 500}

    method: Literal["head"] = "head"

    C: Penalties = Field(
        [0.001, 0.003, 0.01, 0.03, 0.1, 0.3], description="C of the regressions, one or several to choose from"
    )
    loss: LossConfig = LossConfig()

    def basis(self, rows: Examples, template: str) -> Basis:
        """Standardise embeddings by these rows."""
        scaler = StandardScaler().fit(self.embed(rows.texts, template))
        scaler.scale_ = np.maximum(scaler.scale_, MIN_RELATIVE_DEVIATION * np.median(scaler.scale_))
        of_positives = positive_weights(rows.targets, self.loss)

        def features(texts: Sequence[str]) -> NDArray[np.floating]:
            return scaler.transform(self.embed(texts, template))

        return Basis(
            features=features,
            class_weights=np.stack([np.ones_like(of_positives), of_positives], axis=1),
            fields={
                "backbone": BackboneRef(name=self.backbone, content_hash=resolve(self.backbone).content_hash()),
                "max_tokens": self.max_tokens,
                "cut": self.cut,
                "pooling": self.pooling,
            },
            centre=scaler.mean_,
            scale=scaler.scale_,
        )
