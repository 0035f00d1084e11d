"""Weights of a host: converted once, read by all, and never another model's."""

from __future__ import annotations

import multiprocessing
import shutil

import pytest
import torch

from ptec_udf.engine import host
from ptec_udf.engine.host import PLACE, of_host
from ptec_udf.errors import BackboneError
from ptec_udf.model.backbone import resolve
from tests.tiny import tiny_backbone

TEXTS = ["Solar parks for farms", "We sell LOANS, and a wallet.", "", "ünïcode 東京", "a" * 500]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The folder of converted weights."""
    folder = tmp_path / "weights"
    monkeypatch.setenv(PLACE, str(folder))
    host._check_once.cache_clear()
    return folder


@pytest.fixture(params=["bert", "llama", "bloom", "mpnet"])
def backbone(request, tiny_folder):
    return resolve(tiny_backbone(tiny_folder, request.param))


@pytest.fixture
def bert(tiny_folder, tmp_path):
    """One that a test may change."""
    folder = shutil.copytree(tiny_backbone(tiny_folder, "bert").removeprefix("path:"), tmp_path / "bert")
    return resolve(f"path:{folder}")


def hidden(model, tokenizer):
    """What a model makes of a text."""
    ids = torch.tensor([tokenizer("solar power for a bank")["input_ids"]])
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state


def test_converted_weights_give_the_same_states_and_ids(backbone, place):
    converted = of_host(backbone, backbone.content_hash(), torch.bfloat16)
    assert converted.folder.parent == place
    (model, tokenizer), (plain, plain_tokenizer) = converted.load(torch.bfloat16), backbone.load(torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert torch.equal(hidden(model, tokenizer), hidden(plain, plain_tokenizer))
    assert tokenizer(TEXTS)["input_ids"] == plain_tokenizer(TEXTS)["input_ids"]


def test_weights_that_are_stored_as_wanted_are_not_converted(backbone, place):
    assert of_host(backbone, backbone.content_hash(), torch.float32) is backbone
    assert not place.exists()


def test_weights_are_converted_once(bert, monkeypatch):
    first = of_host(bert, bert.content_hash(), torch.bfloat16)
    monkeypatch.setattr(host, "_convert", None)
    assert of_host(bert, bert.content_hash(), torch.bfloat16) == first


def test_damaged_weights_are_refused(bert):
    content = bert.content_hash()
    weights = bert.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BackboneError, match="must have content hash"):
        of_host(bert, content, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_content_is_refused(bert, dtype, place):
    with pytest.raises(BackboneError, match="must have content hash 0000"):
        of_host(bert, "0" * 64, dtype)
    assert not list(place.glob("*BF16*/")) if place.exists() else True


def test_conversion_that_breaks_off_leaves_nothing_and_is_done_without(bert, place, monkeypatch, caplog):
    def full_disk(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(host.Path, "rename", full_disk)
    assert of_host(bert, bert.content_hash(), torch.bfloat16) is bert
    assert "not shared by the workers of this host: No space left" in caplog.text
    assert [file.suffix for file in place.iterdir()] == [".lock"]


def test_folder_that_others_may_write_to_is_not_used(bert, place, caplog):
    place.mkdir()
    place.chmod(0o777)
    assert of_host(bert, bert.content_hash(), torch.bfloat16) is bert
    assert "must be a folder that this user alone may write to" in caplog.text


def convert(backbone, content, results):
    """Load as a worker does, and say how often this process converted."""
    n_conversions, before = [], host._convert
    host._convert = lambda *of: (n_conversions.append(1), before(*of))
    of_host(backbone, content, torch.bfloat16).load(torch.bfloat16)
    results.put(len(n_conversions))


def test_workers_that_start_together_convert_once(bert):
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    workers = [context.Process(target=convert, args=(bert, bert.content_hash(), results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert sum(results.get() for _ in workers) == 1
