"""Verification: equal logits in any batch pass, a fault that a batch brings about is found."""

from __future__ import annotations

import numpy as np
import pytest

from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.model import network
from ptec_udf.model.artifact import load_artifact
from ptec_udf.preflight.reference import reference_logits
from ptec_udf.preflight.verify import compare
from tests.faulty import pool_with_padding
from tests.tiny import FAMILIES, KINDS, tiny_artifact, tiny_companies, tiny_text
from tests.variants import with_lora

TEXTS = [*(tiny_text(company) for company in tiny_companies(25, seed=12)), "solar " * 45]


@pytest.fixture
def artifact(tiny_folder):
    return load_artifact(tiny_artifact(tiny_folder, "bert", "deep"))


def engine_logits(artifact, batch_tokens=100_000):
    return [result.logits for result in load_scorer(artifact, batch_tokens=batch_tokens).score(TEXTS)]


class TestReference:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("family", [*FAMILIES, "mpnet"])
    def test_equals_the_engine_in_any_batch(self, tiny_folder, family, kind):
        artifact = load_artifact(tiny_artifact(tiny_folder, family, kind))
        expected = reference_logits(artifact, TEXTS)
        assert np.ptp(expected, axis=0).min() > 0.1  # texts differ
        for batch_tokens in (1, 300, 100_000):
            found = compare("x", "float32", expected, engine_logits(artifact, batch_tokens), artifact.manifest)
            assert (found.passed, found.changed_labels) == (True, 0), found

    def test_includes_lora(self, tiny_folder, tmp_path):
        artifact = load_artifact(with_lora(tiny_artifact(tiny_folder, "bert", "deep"), tmp_path / "lora"))
        assert compare(
            "x", "float32", reference_logits(artifact, TEXTS), engine_logits(artifact), artifact.manifest
        ).passed

    def test_shows_a_fault_of_padding(self, artifact, monkeypatch):
        expected = reference_logits(artifact, TEXTS)
        monkeypatch.setattr(network, "pool", pool_with_padding)
        np.testing.assert_allclose(reference_logits(artifact, TEXTS), expected, atol=1e-4)
        assert not compare("x", "float32", expected, engine_logits(artifact), artifact.manifest).passed
        assert compare("x", "float32", expected, engine_logits(artifact, 1), artifact.manifest).passed


class TestCompare:
    def logits(self, manifest, n=40):
        return np.random.default_rng(0).normal(size=(n, len(manifest.labels))).astype(np.float32)

    @pytest.mark.parametrize(("shift", "passed"), [(0.0, True), (4e-5, True), (2e-4, False)])
    def test_float32_allows_rounding(self, artifact, shift, passed):
        before = self.logits(artifact.manifest)
        found = compare("x", "float32", list(before), list(before + np.float32(shift)), artifact.manifest)
        assert (found.passed, found.dtype) == (passed, "float32")
        assert found.max_logit == pytest.approx(shift, abs=1e-6)

    @pytest.mark.parametrize(
        ("n_far", "shift", "passed"), [(0, 0.0, True), (1, 0.1, True), (9, 0.1, False), (1, 1.0, False)]
    )
    def test_bfloat16_limits_probabilities(self, artifact, n_far, shift, passed):
        before = np.zeros((40, len(artifact.manifest.labels)), np.float32)
        after = before.copy()
        after.flat[:n_far] += shift
        assert compare("x", "bfloat16", list(before), list(after), artifact.manifest).passed is passed

    def test_a_lost_text_is_a_failure(self, artifact):
        before = list(self.logits(artifact.manifest))
        assert not compare("x", "float32", before, [*before[:-1], None], artifact.manifest).passed
        assert not compare("x", "float32", before, [None] * len(before), artifact.manifest).passed
