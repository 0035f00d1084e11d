"""Methods that let a decoder write the labels: what it is given, what it learns from, what is read."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ptec_udf.errors import ConfigError, TrainingError
from ptec_udf.model.prefix import keys_values_of_embeddings
from tests.tiny import LABELS, TEMPLATE, tiny_backbone
from tests.unit.test_methods import task_of
from training.fit.checkpoint import Checkpoint
from training.methods.generative import Writer, spelling_of
from training.methods.n_shot import NShot, _shown
from training.methods.prompt_tuning import PromptTuning, _Tuning

TEXTS = ["Name: a. solar wind", "Name: b. gene cell protein therapy with the best team", "loan"]


@pytest.fixture(scope="module")
def backbone(tiny_folder):
    return tiny_backbone(tiny_folder, "writer")


@pytest.fixture
def writer(backbone):
    """Gives a writer with some settings of N-shot."""
    return lambda **settings: Writer.load(
        NShot(backbone=backbone, question=" is in", **settings), list(LABELS), TEMPLATE
    )


@pytest.mark.parametrize("trie", [True, False])
@pytest.mark.parametrize("n_before", [0, 7])
def test_what_is_written_does_not_depend_on_the_batch(writer, trie, n_before):
    loaded = writer(trie=trie)
    before = loaded.embedded(list(range(5, 5 + n_before)))
    together = loaded.decide(TEXTS, before)
    alone = np.concatenate([loaded.decide([text], before) for text in TEXTS])
    np.testing.assert_array_equal(together, alone)
    if trie:
        assert ((together.sum(axis=1) >= 1) & (together.sum(axis=1) <= 3)).all()


@pytest.mark.parametrize("trie", [True, False])
def test_what_is_run_once_is_as_if_it_were_run_with_each_text(writer, trie, monkeypatch):
    """Tokens of rows in one padded batch, against the library's generation after the whole of each row."""
    monkeypatch.setattr("training.methods.generative.has_bfloat16", lambda _: False)
    loaded = writer(trie=trie)
    shown = loaded.asked("Name: b. gene cell") + loaded.spelling.spelled([1, 3])
    given = [loaded.asked(text) for text in TEXTS]
    with torch.inference_mode():
        before = loaded.embedded(shown)
        known = keys_values_of_embeddings(loaded.model.base_model, before)
        written = loaded._write(before, known, given)
        bounds = {"prefix_allowed_tokens_fn": lambda _, tokens: loaded.trie.allowed(tokens[n:].tolist())}
        for row, ids in zip(written, given, strict=True):
            whole = torch.tensor([shown + ids])
            n = whole.shape[1]
            options = bounds if trie else {}
            alone = loaded.model.generate(
                whole, do_sample=False, max_new_tokens=len(row), eos_token_id=loaded.spelling.end, **options
            )[0, n:].tolist()
            assert row[: len(alone)] == alone
            assert set(row[len(alone) :]) <= {loaded.spelling.end}


@pytest.mark.parametrize(
    ("written", "labels"),
    [("media; energy", [1, 3]), ("energy energy; media", [3]), ("solar", []), ("media; media", [3]), ("", [])],
)
def test_free_text_is_read_by_exact_match(writer, written, labels):
    loaded = writer(trie=False)
    tokens = loaded.encoder.tokenizer(written, add_special_tokens=False)["input_ids"]
    assert loaded._labels([*tokens, loaded.spelling.end, *loaded.spelling.labels[0]]) == labels


def test_separator_stands_in_no_label(writer):
    tokenizer = writer().encoder.tokenizer
    assert tokenizer.decode([spelling_of(["a", "b"], tokenizer).separator]) == ";"
    assert tokenizer.decode([spelling_of(["a;b", "c|"], tokenizer).separator]) == "/"
    with pytest.raises(ConfigError, match="must be a token of the backbone that stands in no label, and none is"):
        spelling_of([";|/#~"], tokenizer)


def test_labels_that_the_tokeniser_cannot_tell_apart_are_refused(writer):
    with pytest.raises(
        ConfigError, match="labels must differ in the backbone's tokens, these do not: 'Media', 'media'"
    ):
        spelling_of(["Media", "media"], writer().encoder.tokenizer)


def test_backbone_without_end_token_is_refused(tiny_folder):
    with pytest.raises(ConfigError, match="needs an end token"):
        Writer.load(NShot(backbone=tiny_backbone(tiny_folder, "bloom")), list(LABELS), TEMPLATE)


def test_examples_stand_before_the_text(backbone, companies, tmp_path):
    task = task_of(companies, tmp_path)
    settings = NShot(backbone=backbone, question=" is in", n_examples=2, lists_labels=True, example_tokens=9)
    loaded = Writer.load(settings, task.names, task.template)
    shown = loaded.encoder.tokenizer.decode(_shown(settings, loaded, task.whole, np.random.default_rng(0)))
    assert shown.startswith(" ; ".join(LABELS))
    assert shown.count("is in") == 2
    chosen = np.random.default_rng(0).permutation(len(task.whole))[:2]
    for at in chosen:
        labels = [name for name, holds in zip(LABELS, task.whole.targets[at], strict=True) if holds]
        assert f"is in {' ; '.join(labels)}" in shown


def test_answer_ends_as_those_of_the_examples_do(backbone, companies, tmp_path):
    task = task_of(companies, tmp_path)
    settings = NShot(backbone=backbone, question=" is in", n_examples=3, trie=False)
    loaded = Writer.load(settings, task.names, task.template)
    between = loaded.encoder.tokenizer("\n\n", add_special_tokens=False)["input_ids"]
    assert [loaded.spelling.end] * 2 == between
    shown = _shown(settings, loaded, task.whole, np.random.default_rng(0))
    assert shown.count(between[0]) == 3 * 2
    assert shown[-2:] == between
    goes_on = loaded.encoder.tokenizer("media; energy\n\nName: b. loan is in loan", add_special_tokens=False)[
        "input_ids"
    ]
    assert loaded._labels(goes_on) == [1, 3]


@pytest.mark.parametrize("lists_labels", [True, False])
def test_n_shot_gives_labels_of_the_taxonomy(backbone, companies, tmp_path, lists_labels):
    settings = NShot(backbone=backbone, n_examples=1, lists_labels=lists_labels, max_tokens=16, example_tokens=16)
    found = settings.learn(task_of(companies, tmp_path)).score(TEXTS)
    assert found.shape == (3, len(LABELS))
    assert (found.sum(axis=1) >= 1).all()


@pytest.fixture
def tuning(backbone, companies, tmp_path):
    """Gives a training of a prompt that has not begun."""

    def make(seed=0, **settings):
        task = task_of(companies, tmp_path, seed=seed)
        options = {"max_tokens": 32, "n_tokens": 4, "epochs": 3, "lr": 0.1, "batch_rows": 16} | settings
        method = PromptTuning(backbone=backbone, question=" is in", **options)
        return _Tuning(method, Writer.load(method, task.names, task.template), task.whole, task.seed)

    return make


@pytest.fixture
def empty(tmp_path):
    """Gives the place of a training's state, where there is none."""
    names = itertools.count()
    return lambda: Checkpoint(tmp_path / f"state{next(names)}", "it")


def test_loss_is_that_of_the_library(tuning, monkeypatch):
    """Row by row, and padded in one batch."""
    monkeypatch.setattr("training.methods.generative.has_bfloat16", lambda _: False)
    made = tuning()
    made.prompt.data += 0.1
    with torch.no_grad():
        rows = range(5)
        expected = []
        for at in rows:
            ids, out = made.inputs[at], made.outputs[at]
            embeddings = torch.cat([made.prompt, made.writer.embedded(ids + out)]).unsqueeze(0)
            labels = torch.tensor([[-100] * (len(made.prompt) + len(ids)) + out])
            expected.append(float(made.writer.model(inputs_embeds=embeddings, labels=labels).loss))
        assert float(made._loss_sum(list(rows))) == pytest.approx(sum(expected), rel=1e-4)
        assert [float(made._loss_sum([at])) for at in rows] == pytest.approx(expected, rel=1e-4)


def test_targets_are_labels_by_their_frequency(tuning, companies, tmp_path):
    made, task = tuning(), task_of(companies, tmp_path)
    counts = task.whole.targets.sum(axis=0)
    at = int(np.flatnonzero(task.whole.targets.sum(axis=1) == 2)[0])
    labels = sorted(np.flatnonzero(task.whole.targets[at]), key=lambda label: -counts[label])
    assert made.outputs[at] == made.writer.spelling.spelled(labels)


def test_loss_falls_the_decoder_stays_and_seeds_decide(tuning, empty, capsys):
    first, again, other = tuning(), tuning(), tuning(seed=1)
    weights = {name: value.clone() for name, value in first.writer.model.state_dict().items()}
    first.run(empty())
    losses = [float(line.split()[-1]) for line in capsys.readouterr().err.splitlines() if ": loss" in line]
    assert losses[-1] < losses[0] - 0.1
    assert all(torch.equal(value, weights[name]) for name, value in first.writer.model.state_dict().items())
    again.run(empty())
    other.run(empty())
    assert torch.equal(again.prompt, first.prompt)
    assert not torch.equal(other.prompt, first.prompt)


def test_interrupted_training_of_a_prompt_ends_as_an_undisturbed_one(tuning, empty, monkeypatch, capsys):
    undisturbed, killed, resumed, place = tuning(), tuning(), tuning(), empty()
    undisturbed.run(empty())
    save = Checkpoint.save

    def save_and_die(self, course, *state):
        save(self, course, *state)
        if course.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Checkpoint, "save", save_and_die)
        killed.run(place)
    course = resumed.run(place)
    assert "training resumes after epoch 2" in capsys.readouterr().err
    assert course.epoch == 3
    assert torch.equal(resumed.prompt, undisturbed.prompt)


def test_methods_that_only_decode_otherwise_share_a_training(backbone, companies, tmp_path, capsys):
    task = task_of(companies, tmp_path)
    settings = {"backbone": backbone, "max_tokens": 32, "n_tokens": 4, "epochs": 1, "most_rows": 40}
    for method, trains in [
        (PromptTuning(**settings), True),
        (PromptTuning(**settings, trie=False, most_labels=2), False),
        (PromptTuning(**settings, lr=0.02), True),
    ]:
        learned = method.learn(task)
        assert ("epoch 1 of 1: loss" in capsys.readouterr().err) == trains
        assert learned.seconds > 0


def test_loss_that_is_not_finite_ends_it(tuning, empty):
    with pytest.raises(TrainingError, match="the loss must be finite, was not; lower lr"):
        tuning(lr=1e38).run(empty())


@pytest.mark.parametrize("trie", [True, False])
def test_prompt_tuning_decides(backbone, companies, tmp_path, trie):
    method = PromptTuning(backbone=backbone, max_tokens=32, n_tokens=4, epochs=1, most_rows=40, trie=trie)
    learned = method.learn(task_of(companies, tmp_path))
    assert learned.decisions is None
    found = learned.score(TEXTS)
    assert found.shape == (3, len(LABELS))
    assert set(np.unique(found)) <= {0.0, 1.0}
    assert not trie or (found.sum(axis=1) >= 1).all()


def test_operations_are_about_those_that_torch_counts(backbone, companies, tmp_path):
    """One row at a time, so that nothing is padded; how much is written is known from training only."""
    task = task_of(companies, tmp_path)
    method = PromptTuning(backbone=backbone, max_tokens=32, n_tokens=4, epochs=2, most_rows=8, batch_rows=1)
    with FlopCounterMode(display=False) as training:
        learned = method.learn(task)
    assert learned.flop == pytest.approx(training.get_total_flops(), rel=0.1)
    text = " ".join(TEXTS)
    with FlopCounterMode(display=False) as scoring:
        learned.score([text])
    assert learned.flop_of_scoring([text]) == pytest.approx(scoring.get_total_flops(), rel=0.25)
