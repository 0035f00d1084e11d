"""Several models score texts in one pass: each as if it were alone, and none in another's way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ptec_udf.engine.encoder import Encoder
from ptec_udf.engine.load import load_scorer
from ptec_udf.engine.result import ERROR, OK, TRUNCATED
from ptec_udf.engine.together import score_together
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.backbone import resolve
from ptec_udf.model.ensemble import MeanNetwork
from tests.tiny import tiny_artifact, tiny_backbone, tiny_companies, tiny_manifest, tiny_network, tiny_text
from tests.tolerance import assert_logits_close
from tests.variants import same_prompt, variant, with_lora
from training.export import export

TEXTS = [tiny_text(company) for company in tiny_companies(30, seed=11)]
POISON = "Name: secret. turbine luggage enzyme"
FORMS = [("bert", "input"), ("bert", "deep"), ("llama", "input"), ("bloom", "deep"), ("mpnet", "deep")]


@pytest.fixture
def made(tiny_folder, tmp_path):
    """Makes a model, one with its prompt and another head, one with another prompt, and one that reads less."""

    def made(family="bert", kind="deep"):
        first, other = (tiny_artifact(tiny_folder, family, kind, seed=seed) for seed in (0, 1))
        head = same_prompt(first, other, tmp_path / "head")
        return [first, head, other, variant(first, tmp_path / "less", max_tokens=20)]

    return made


def on_one_backbone(folders, batch_tokens=256, dtype=torch.float32):
    """Load models on one backbone, but for those with LoRA."""
    artifacts = [load_artifact(folder) for folder in folders]
    shared = resolve(artifacts[0].manifest.backbone.name).load(dtype)
    backbones = [None if artifact.manifest.lora else shared for artifact in artifacts]
    pairs = zip(artifacts, backbones, strict=True)
    options = {"batch_tokens": batch_tokens, "dtype": dtype}
    return [load_scorer(artifact, backbone=backbone, **options) for artifact, backbone in pairs]


def alone(folder, texts=TEXTS):
    return load_scorer(load_artifact(folder), batch_tokens=256).score(texts)


def logits_of(results):
    return np.stack([result.logits for result in results])


def facts_of(results):
    return [(result.status, result.n_tokens, result.n_truncated, result.error) for result in results]


def assert_as_alone(found, folder, texts=TEXTS):
    expected = alone(folder, texts)
    assert facts_of(found) == facts_of(expected)
    assert_logits_close(logits_of(found), logits_of(expected))


def count(monkeypatch, scorers):
    """Count passes through backbones, and texts that are tokenised."""
    passes, encoded, encode = [], [], Encoder.encode
    for backbone in {
        id(scorer.network.members[0].backbone): scorer.network.members[0].backbone for scorer in scorers
    }.values():
        backbone.register_forward_pre_hook(lambda *_: passes.append(1))
    monkeypatch.setattr(Encoder, "encode", lambda self, texts: encoded.extend(texts) or encode(self, texts))
    return passes, encoded


@pytest.mark.parametrize(("family", "kind"), FORMS)
def test_each_model_gives_what_it_gives_alone(made, family, kind):
    folders = made(family, kind)
    found = score_together(on_one_backbone(folders), TEXTS)
    for results, folder in zip(found, folders, strict=True):
        assert_as_alone(results, folder)
    assert {result.status for result in found[3]} == {OK, TRUNCATED}
    first, head, other, less = map(logits_of, found)
    assert all(np.abs(first - values).max() > 0.01 for values in (head, other, less))


def test_empty_texts_stay_empty(made):
    found = score_together(on_one_backbone(made()), [None, *TEXTS[:3], "  "])
    assert [[result.logits is None for result in results] for results in found] == [[True, *[False] * 3, True]] * 4


def test_equal_prompts_take_one_pass_and_equal_lengths_one_tokenising(made, monkeypatch):
    scorers = on_one_backbone(made(), batch_tokens=100_000)
    passes, encoded = count(monkeypatch, scorers)
    score_together(scorers[:2], TEXTS)
    assert (len(passes), encoded) == (1, TEXTS)
    score_together(scorers[:3], TEXTS)
    assert (len(passes), encoded) == (1 + 2, TEXTS * 2)
    score_together(scorers, TEXTS)
    assert (len(passes), encoded) == (1 + 2 + 3, TEXTS * 4)


def test_a_member_shares_its_pass_with_a_model_of_its_prompt(tiny_folder, load_tiny, tmp_path, monkeypatch):
    networks = [tiny_network(*load_tiny("bert"), seed=seed) for seed in (1, 2)]
    manifest = tiny_manifest(tiny_backbone(tiny_folder, "bert"), networks[0], members=2)
    export(MeanNetwork(networks).eval(), manifest, {}, tmp_path / "members")
    folders = [tmp_path / "members", tiny_artifact(tiny_folder, seed=2)]
    scorers = on_one_backbone(folders, batch_tokens=100_000)
    passes, _ = count(monkeypatch, scorers)
    found = score_together(scorers, TEXTS)
    assert len(passes) == 2
    for results, folder in zip(found, folders, strict=True):
        assert_as_alone(results, folder)


def test_a_model_with_lora_has_a_backbone_of_its_own(made, tmp_path, monkeypatch):
    first = made()[0]
    folders = [first, with_lora(first, tmp_path / "lora")]
    scorers = on_one_backbone(folders, batch_tokens=100_000)
    passes, encoded = count(monkeypatch, scorers)
    found = score_together(scorers, TEXTS)
    assert (len(passes), encoded) == (2, TEXTS)
    for results, folder in zip(found, folders, strict=True):
        assert_as_alone(results, folder)
    assert np.abs(logits_of(found[0]) - logits_of(found[1])).max() > 0.01


@pytest.mark.parametrize("part", ["hidden", "logits"])
@pytest.mark.parametrize("error", [RuntimeError, AttributeError])
@pytest.mark.parametrize("at", [2, 3])
def test_a_model_that_fails_leaves_the_scores_of_others(made, monkeypatch, at, error, part):
    folders = made()
    scorers = on_one_backbone(folders)

    def stop(*_):
        raise error(POISON)

    monkeypatch.setattr(scorers[at].network, part, stop)
    found = score_together(scorers, TEXTS)
    assert [result.logits for result in found.pop(at)] == [None] * len(TEXTS)
    folders.pop(at)
    for results, folder in zip(found, folders, strict=True):
        assert_as_alone(results, folder)


@pytest.mark.parametrize("part", ["hidden", "logits"])
def test_a_text_that_breaks_the_first_model_is_found(made, monkeypatch, part):
    folders = made()
    scorers = on_one_backbone(folders)
    first = scorers[0]
    poison = first.encoder.encode([POISON])[0].ids
    hidden, logits, ids_of = first.network.hidden, first.network.logits, []

    def remember(ids, mask):
        ids_of[:] = [row[: len(poison)].tolist() for row in ids]
        if part == "hidden" and poison in ids_of:
            raise ValueError(POISON)
        return hidden(ids, mask)

    def breaking(states, mask):
        if part == "logits" and poison in ids_of:
            raise ValueError(POISON)
        return logits(states, mask)

    monkeypatch.setattr(first.network, "hidden", remember)
    monkeypatch.setattr(first.network, "logits", breaking)
    found = score_together(scorers, [*TEXTS[:5], POISON, *TEXTS[5:]])
    assert facts_of(found[0])[5] == (ERROR, 0, 0, "scoring this text alone raised ValueError")
    assert_as_alone(found[0][:5] + found[0][6:], folders[0])
    assert_as_alone(found[2][:5] + found[2][6:], folders[2])
    # One that shares the pass which fails is left without logits in that batch alone.
    n_missing = sum(result.logits is None for result in found[1])
    assert n_missing == 0 if part == "logits" else 0 < n_missing < len(TEXTS)


def test_terms_that_fail_on_a_text_fail_it_alone(made, monkeypatch):
    class Terms:
        def logits(self, text):
            if text == POISON:
                raise ValueError(text)
            return 0

    folders = made()
    scorers = on_one_backbone(folders)
    monkeypatch.setattr(scorers[0], "terms", Terms())
    found = score_together(scorers, [*TEXTS, POISON])
    assert found[0][-1].error == "scoring this text alone raised ValueError"
    assert_as_alone(found[0][:-1], folders[0])
    assert all(results[-1].status == OK for results in found[1:])


def test_a_text_that_breaks_the_tokeniser_is_marked_for_the_first_model(made, monkeypatch):
    scorers, encode = on_one_backbone(made()[:3]), Encoder.encode

    def breaking(self, texts):
        if POISON in texts:
            raise TypeError(POISON)
        return encode(self, texts)

    monkeypatch.setattr(Encoder, "encode", breaking)
    found = score_together(scorers, [*TEXTS[:5], POISON, *TEXTS[5:]])
    assert [[row for row, result in enumerate(results) if result.logits is None] for results in found] == [[5]] * 3
    assert found[0][5].error == "scoring this text alone raised TypeError"


@pytest.mark.parametrize("error", [AttributeError, KeyboardInterrupt])
def test_what_would_end_the_first_model_alone_ends_the_pass(made, monkeypatch, error):
    scorers = on_one_backbone(made())

    def stop(*_):
        raise error

    monkeypatch.setattr(scorers[0].network, "logits", stop)
    with pytest.raises(error):
        score_together(scorers, TEXTS)


def test_each_model_scores_what_it_is_wanted_for(made):
    folders = made()[:3]
    first, head, other = on_one_backbone(folders)
    wanted = [row % 4 for row in range(len(TEXTS))]
    found = score_together([first, head, other], TEXTS, wanted)
    assert_as_alone(found[0], folders[0])
    for at, results in enumerate(found[1:]):
        rows = [row for row in range(len(TEXTS)) if wanted[row] & 1 << at]
        assert [row for row, result in enumerate(results) if result.logits is not None] == rows
        assert_as_alone([results[row] for row in rows], folders[at + 1], [TEXTS[row] for row in rows])
    found = score_together([first, None, other], TEXTS, [3] * len(TEXTS))
    assert {result.logits is None for result in found[1]} == {True}
    assert_as_alone(found[2], folders[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_models_logits_are_its_own_to_the_last_bit(made, monkeypatch, tmp_path, dtype):
    folders = made()
    folders.append(with_lora(folders[0], tmp_path / "lora"))
    scorers = on_one_backbone(folders, dtype=dtype)
    expected = scorers[0].score(TEXTS)
    scorers[1].batch_tokens = 64  # what another one could hold is of no account

    def check(scorers, wanted):
        found = score_together(scorers, TEXTS, wanted)[0]
        assert (facts_of(found), logits_of(found).tolist()) == (facts_of(expected), logits_of(expected).tolist())
        assert [one.batch_positions for one in found] == [one.batch_positions for one in expected]

    rows = range(len(TEXTS))
    for wanted in ([row % 16 for row in rows], [0 for _ in rows], [15 if row == 3 else 0 for row in rows], None):
        check(scorers, wanted)
    check([scorers[0], None, *scorers[2:]], [row % 16 for row in rows])
    check([scorers[0], *[None] * 4], [15 for _ in rows])
    check(scorers[:1], None)
    monkeypatch.setattr(scorers[2].network, "hidden", None)
    check(scorers, [row % 16 for row in rows])


def test_members_are_averaged_as_alone_whatever_passes_they_share(tiny_folder, load_tiny, tmp_path):
    loaded = load_tiny("bert")
    networks = [tiny_network(*loaded, seed=seed) for seed in (1, 2, 3)]
    with torch.no_grad():
        networks[2].prompt.copy_(networks[0].prompt)  # its pass comes first, and its logits are still the last
    manifest = tiny_manifest(tiny_backbone(tiny_folder, "bert"), networks[0], members=3)
    export(MeanNetwork(networks).eval(), manifest, {}, tmp_path / "members")
    scorers = on_one_backbone([tmp_path / "members"])
    assert logits_of(score_together(scorers, TEXTS)[0]).tolist() == logits_of(scorers[0].score(TEXTS)).tolist()


def test_passes_that_no_text_of_a_batch_wants_are_left_out(made, monkeypatch):
    scorers = on_one_backbone(made(), batch_tokens=64)
    passes, encoded = count(monkeypatch, scorers)
    scorers[0].score(TEXTS)
    n_batches = len(passes)
    longest = max(range(len(TEXTS)), key=lambda row: len(scorers[0].encoder.encode([TEXTS[row]])[0].ids))
    for wanted, n_more, texts in ((1, 0, 0), (2, 1, 0), (4, 1, 1), (7, 2, 1)):
        passes.clear(), encoded.clear()
        found = score_together(scorers, TEXTS, [wanted if row == longest else 0 for row in range(len(TEXTS))])
        assert (len(passes), len(encoded)) == (n_batches + n_more, len(TEXTS) + texts)
        n_scored = [sum(result.logits is not None for result in of_model) for of_model in found]
        assert n_scored == [len(TEXTS), *(wanted >> at & 1 for at in range(3))]
