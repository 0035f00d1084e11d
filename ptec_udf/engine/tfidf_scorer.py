"""Texts to logits without a language model: TF-IDF and one linear layer."""

from __future__ import annotations

from collections.abc import Sequence

from ptec_udf.engine.result import TEXT_ERRORS, ScoredText, make_result, mark_failed
from ptec_udf.model.tfidf import TfidfHead


class TfidfScorer:
    """Scores any number of texts in any order, each by itself.

    ``n_tokens`` counts words between white space. Nothing is cut. A text without a known term gets the logits of no
    term at all.
    """

    def __init__(self, head: TfidfHead) -> None:
        self.head = head

    def score(self, texts: Sequence[str | None]) -> list[ScoredText]:
        """Score texts, in their order; None and blank texts are ``empty``."""
        return [self._score(text) if text and not text.isspace() else ScoredText() for text in texts]

    def _score(self, text: str) -> ScoredText:
        result = ScoredText()
        try:
            logits = self.head.logits(text)
            n_tokens = len(text.split())
        except TEXT_ERRORS as error:
            mark_failed(result, error)
            return result
        return make_result(text, logits, n_tokens=n_tokens, n_truncated=0, batch_positions=n_tokens)
