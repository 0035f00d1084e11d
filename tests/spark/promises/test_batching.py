"""Promise 1: a text's logits do not depend on its batch and equal a plain pass of the text alone."""

from __future__ import annotations

import pytest

from tests.plain import PlainScorer
from tests.spark.support import Site, companies
from tests.tiny import TEMPLATE, tiny_artifact
from tests.tolerance import assert_logits_close


class TestFirstRun:
    def test_logits_equal_a_plain_pass(self, scored: Site) -> None:
        plain = PlainScorer(tiny_artifact(scored.folder))
        scores = scored.scores()
        assert len(scores) == 30
        for key, name, about in companies(20):
            assert_logits_close(scores[key]["logits"], plain.logits(TEMPLATE.format(name=name, about=about)))

    def test_probabilities_and_labels_follow_from_logits(self, scored: Site) -> None:
        model = PlainScorer(tiny_artifact(scored.folder)).manifest
        for row in scored.scores().values():
            for label, logit, probability in zip(model["labels"], row["logits"], row["probabilities"], strict=True):
                assert probability == pytest.approx(1 / (1 + 2.718281828459045**-logit), abs=1e-6)
                assert (label["name"] in row["labels"]) == (probability >= label["threshold"])

    def test_scores_equal_texts_once(self, scored: Site) -> None:
        [run] = scored.sql("SELECT outcome, counts, reused FROM {db}.runs WHERE outcome = 'done'")
        assert (run["outcome"], run["counts"], run["reused"]) == ("done", {"ok": 30}, 10)
        scores = scored.scores()
        assert scores["c0000"]["logits"] == scores["twin-c0000"]["logits"]
