"""Word and character statistics with a logistic regression for each label: the cheapest floor."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ptec_udf.model.artifact_format import TFIDF
from training.config import NgramConfig
from training.data.dataset import Examples
from training.fit.tfidf import SOLVER, balanced_weights, fit_vectorizer, ngram_spec, tfidf_matrix
from training.methods.linear import Basis, Linear, Penalties


class Tfidf(NgramConfig, Linear):
    """TF-IDF of words and characters, and balanced logistic regressions."""

    solver: ClassVar[dict[str, Any]] = SOLVER

    method: Literal["tfidf"] = "tfidf"

    C: Penalties = Field(
        [1.0, 3.0, 10.0, 30.0, 100.0], description="C of the regressions, one or several to choose from"
    )

    def basis(self, rows: Examples, template: str) -> Basis:
        """Count terms in these rows."""
        terms = fit_vectorizer(rows.texts, ngram_spec(self))
        return Basis(
            features=lambda texts: tfidf_matrix(terms, texts),
            class_weights=balanced_weights(rows.targets),
            fields={"tfidf": terms.form},
            files={TFIDF: terms.to_json()},
        )
