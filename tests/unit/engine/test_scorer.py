"""Texts are scored in any number and order; a bad one affects itself only."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import torch

from ptec_udf.engine.scorer import EMPTY, ERROR, OK, TRUNCATED, Scorer
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.backbone import resolve
from tests.tiny import tiny_artifact, tiny_companies, tiny_text
from tests.tolerance import assert_logits_close

TEXTS = [tiny_text(company) for company in tiny_companies(40, seed=11)]
POISON = "Name: secret. turbine luggage enzyme"


@pytest.fixture
def make_scorer(tiny_folder):
    """Makes scorers that a test may break."""

    def make(batch_tokens=256) -> Scorer:
        artifact = load_artifact(tiny_artifact(tiny_folder))
        backbone = resolve(artifact.manifest.backbone.name).load()
        return load_scorer(artifact, batch_tokens=batch_tokens, backbone=backbone)

    return make


class FakeEngine:
    """An engine that computes logits from ids, and may fail."""

    def __init__(self, fail=lambda ids: None):
        self.fail = fail

    def prepare(self, device, threads):
        pass

    def logits(self, ids, mask):
        self.fail(ids)
        return np.stack([(ids * mask).sum(axis=1), mask.sum(axis=1)], axis=1).astype(np.float32)


@pytest.fixture
def make_fake(make_scorer):
    """Makes a scorer on a fake engine that fails for batches with the poison text."""
    encoder = make_scorer().encoder
    poison = encoder.encode([POISON])[0].ids

    def make(error=RuntimeError):
        def fail(ids):
            if any(row[: len(poison)].tolist() == poison for row in ids):
                raise error(f"cannot score {POISON}")

        return Scorer(FakeEngine(fail), encoder, batch_tokens=100_000)

    return make


def logits_of(results):
    return np.stack([result.logits for result in results])


class TestScores:
    def test_windows_tokenised_ahead_score_the_same(self, make_fake):
        scorer, encoded_in = make_fake(), set()
        windows = [TEXTS[:7], [None], TEXTS[7:], []]
        encode = scorer.encoder.encode
        scorer.encoder.encode = lambda texts: encoded_in.add(threading.current_thread()) or encode(texts)
        found = list(scorer.score_windows(iter(windows)))
        assert threading.current_thread() not in encoded_in
        for texts, results in zip(windows, found, strict=True):
            for result, alone in zip(results, scorer.score(texts), strict=True):
                assert result.status == alone.status
                assert result.logits is None or (result.logits == alone.logits).all()

    def test_report_tokens_cut_and_padding(self, make_scorer):
        whole, cut = make_scorer().score(["solar " * 30, "solar " * 45])
        assert (whole.status, whole.n_tokens, whole.n_truncated) == (OK, 32, 0)
        assert (cut.status, cut.n_tokens, cut.n_truncated) == (TRUNCATED, 32, 15)
        short, long = make_scorer(batch_tokens=1000).score(["solar wind", "solar wind grid battery"])
        assert (short.n_tokens, long.n_tokens, short.batch_positions) == (4, 6, 6)


class TestEmptyTexts:
    @pytest.mark.parametrize("text", [None, "", "   ", "\n\t", "\u3000", "\u200b"])
    def test_are_empty_and_their_neighbours_are_not(self, make_scorer, text):
        results = make_scorer().score([TEXTS[0], text, TEXTS[1]])
        assert [result.status for result in results] == [OK, EMPTY, OK]
        assert (results[1].logits, results[1].error, results[1].n_tokens) == (None, None, 0)


class TestBadTexts:
    @pytest.mark.parametrize("at", [0, 17, 40])
    @pytest.mark.parametrize("error", [RuntimeError, IndexError, torch.OutOfMemoryError, MemoryError])
    def test_are_found_and_the_others_are_scored(self, make_fake, at, error):
        scorer = make_fake(error)
        results = scorer.score([*TEXTS[:at], POISON, *TEXTS[at:]])
        bad = results.pop(at)
        assert (bad.status, bad.error, bad.logits) == (ERROR, f"scoring this text alone raised {error.__name__}", None)
        assert "secret" not in repr(bad)
        assert_logits_close(logits_of(results), logits_of(scorer.score(TEXTS)))

    @pytest.mark.parametrize(
        "refusal", [TypeError, Exception, type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})]
    )
    def test_may_break_the_tokenizer(self, make_scorer, monkeypatch, refusal):
        scorer = make_scorer()
        backend = scorer.encoder._backend

        class Breaking:
            def encode_batch(self, texts, **options):
                if POISON in texts:
                    raise refusal(POISON)
                return backend.encode_batch(texts, **options)

        monkeypatch.setattr(scorer.encoder, "_backend", Breaking())
        results = scorer.score([*TEXTS[:5], POISON, *TEXTS[5:9], None, POISON])
        assert [result.status for result in results] == [*[OK] * 5, ERROR, *[OK] * 4, EMPTY, ERROR]
        assert "secret" not in results[5].error

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_may_have_infinite_logits(self, make_fake, monkeypatch, value):
        scorer = make_fake()
        monkeypatch.setattr(scorer.engine, "logits", lambda ids, mask: np.array([[1.0], [value]], np.float32))
        results = scorer.score(["solar wind", "solar"])
        assert [(result.status, result.error) for result in results] == [(OK, None), (ERROR, "logits are not finite")]

    def test_do_not_hide_an_interrupt(self, make_fake):
        with pytest.raises(KeyboardInterrupt):
            make_fake(KeyboardInterrupt).score([POISON])


class TestOutOfMemory:
    def test_passes_are_freed_before_the_halves_and_later_batches_stay_large(self, make_scorer, monkeypatch):
        scorer = make_scorer(batch_tokens=100_000)
        expected = logits_of(scorer.score(TEXTS))
        (network,), kept, sizes, full = scorer.engine.networks, [], [], [True]
        forward = network.forward

        def fill(ids, mask):
            assert [reference for reference in kept if reference() is not None] == []
            hidden = torch.zeros(1)
            kept.append(weakref.ref(hidden))
            sizes.append(len(ids))
            if full and len(ids) > 5:
                raise torch.OutOfMemoryError
            return forward(ids, mask) + hidden

        monkeypatch.setattr(network, "forward", fill)
        assert_logits_close(logits_of(scorer.score(TEXTS)), expected)
        assert min(sizes) == 5
        full.clear()
        sizes.clear()
        scorer.score(TEXTS)
        assert sizes == [len(TEXTS)]


def test_scorer_and_worker_import_neither_spark_nor_torch():
    modules = "ptec_udf.engine.scorer, ptec_udf.engine.worker, ptec_udf.model.artifact, ptec_udf.text.template"
    program = f"import sys, {modules}; print({{'pyspark', 'torch', 'transformers'}} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "set()"
