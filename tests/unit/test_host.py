"""Weights of a host: converted once, read by all, and never another model's."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import resource
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

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
    assert converted.weights.parent == place
    (model, tokenizer), (plain, plain_tokenizer) = converted.load(torch.bfloat16), backbone.load(torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert torch.equal(hidden(model, tokenizer), hidden(plain, plain_tokenizer))
    assert tokenizer(TEXTS)["input_ids"] == plain_tokenizer(TEXTS)["input_ids"]


def test_weights_that_are_stored_as_wanted_are_not_converted(backbone, place):
    assert of_host(backbone, backbone.content_hash(), torch.float32) is backbone
    assert not place.exists()


def test_whole_numbers_beside_the_weights_do_not_matter(bert):
    file = bert.folder / "model.safetensors"
    save_file({**load_file(file), "embeddings.position_ids": torch.arange(96)}, file, {"format": "pt"})
    assert of_host(bert, bert.content_hash(), torch.float32) is bert


def test_weights_are_converted_once(bert, monkeypatch):
    first = of_host(bert, bert.content_hash(), torch.bfloat16)
    monkeypatch.setattr(host, "_convert", None)
    assert of_host(bert, bert.content_hash(), torch.bfloat16) == first


def test_nobody_writes_into_weights_that_are_mapped(bert):
    files = of_host(bert, bert.content_hash(), torch.bfloat16).weights.iterdir()
    assert {file.stat().st_mode & 0o777 for file in files} == {0o400}


@pytest.mark.parametrize("damage", ["flip", "cut", "lose", "seal"])
def test_converted_weights_that_were_damaged_are_converted_again(bert, damage):
    converted = of_host(bert, bert.content_hash(), torch.bfloat16)
    folder, states = converted.weights, hidden(*converted.load(torch.bfloat16))
    file = folder / ("content_hash" if damage == "seal" else "model.safetensors")
    whole = file.read_bytes()
    file.chmod(0o600)
    damaged = {"flip": whole[:-1] + bytes([whole[-1] ^ 1]), "cut": whole[:-9], "lose": b"", "seal": b"\xff"}
    file.write_bytes(damaged[damage])
    if damage == "lose":
        shutil.rmtree(folder)
        folder.mkdir()
    assert of_host(bert, bert.content_hash(), torch.bfloat16) == converted
    assert torch.equal(hidden(*converted.load(torch.bfloat16)), states)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_content_is_refused(bert, dtype, place):
    with pytest.raises(BackboneError, match="must have content hash 0000"):
        of_host(bert, "0" * 64, dtype)
    assert not place.exists()


def test_damaged_backbone_is_refused(bert):
    content = bert.content_hash()
    weights = bert.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BackboneError, match="must have content hash"):
        of_host(bert, content, torch.float32)


def test_folder_that_others_have_a_right_to_is_not_used(bert, place, caplog):
    place.mkdir()
    place.chmod(0o750)
    assert of_host(bert, bert.content_hash(), torch.bfloat16) is bert
    assert "must be a folder of this user that no other has a right to" in caplog.text


def on_full_disk(backbone, content, results):
    """Load where files cannot grow beyond a size, and say whether the backbone is used as it is."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    results.put(of_host(backbone, content, torch.bfloat16) is backbone)


def test_conversion_for_which_there_is_no_room_is_done_without_and_leaves_nothing(bert, place):
    assert in_processes(on_full_disk, bert, 1) == [True]
    assert [file.suffix for file in place.iterdir()] == [".lock"]


def test_converted_weights_that_cannot_be_read_are_done_without(bert, place, monkeypatch, caplog):
    content, digest = bert.content_hash(), hashlib.file_digest
    assert of_host(bert, content, torch.bfloat16).weights

    def failing(stream, name):
        if stream.name.startswith(str(place)):
            raise OSError(errno.EIO, "Input/output error")
        return digest(stream, name)

    monkeypatch.setattr("hashlib.file_digest", failing)
    assert of_host(bert, content, torch.bfloat16) is bert
    assert "weights are not shared by the workers of this host" in caplog.text


def test_what_a_killed_conversion_left_goes(bert, place):
    folder = of_host(bert, bert.content_hash(), torch.bfloat16).weights
    shutil.rmtree(folder)
    (place / f".{folder.name}.0123").mkdir()
    of_host(bert, bert.content_hash(), torch.bfloat16)
    assert {file.name for file in place.iterdir()} == {folder.name, f"{folder.name}.lock"}


def convert(backbone, content, results):
    """Load as a worker does, and say how often this process converted."""
    n_conversions, before = [], host._convert
    host._convert = lambda *of: (n_conversions.append(1), before(*of))
    of_host(backbone, content, torch.bfloat16).load(torch.bfloat16)
    results.put(len(n_conversions))


def test_workers_that_start_together_convert_once(bert):
    assert sum(in_processes(convert, bert, 3)) == 1


def in_processes(work, backbone, n):
    """Let processes of their own do something with a backbone at once; what each has found."""
    # Not by a fork: torch's threads do not live on in one, and loading then fails now and again.
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    workers = [context.Process(target=work, args=(backbone, backbone.content_hash(), results)) for _ in range(n)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * n
    return [results.get() for _ in workers]
