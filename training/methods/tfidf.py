"""Word and character statistics with a logistic regression for each label: the cheapest floor."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ptec_udf.model.artifact_format import TFIDF
from ptec_udf.model.manifest import TfidfSpec
from training.config import TermsCounts
from training.data.dataset import Examples
from training.fit.tfidf import SOLVER, balanced, count_terms, sparse_features
from training.methods.linear import Basis, Linear, Penalties


class Tfidf(TermsCounts, Linear):
    """TF-IDF of words and characters, and balanced logistic regressions."""

    solver: ClassVar[dict[str, Any]] = SOLVER

    method: Literal["tfidf"] = "tfidf"

    C: Penalties = Field(
        [1.0, 3.0, 10.0, 30.0, 100.0], description="C of the regressions, one or several to choose from"
    )

    def basis(self, rows: Examples, template: str) -> Basis:
        """Count terms in these rows."""
        terms = count_terms(rows.texts, TfidfSpec(words=self.words, characters=self.characters))
        return Basis(
            features=lambda texts: sparse_features(terms, texts),
            class_weights=balanced(rows.targets),
            fields={"tfidf": terms.form},
            files={TFIDF: terms.to_json()},
        )
