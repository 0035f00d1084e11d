"""An artifact comes back as it was written, or is refused with the name of the wrong file."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from ptec_training.export import export
from ptec_udf.errors import ArtifactError
from ptec_udf.model.artifact import (
    ADAPTER,
    ADAPTER_CONFIG,
    HEAD,
    MANIFEST,
    METRICS,
    SUMS,
    TFIDF,
    load_artifact,
    read_artifact,
    seal,
)
from ptec_udf.model.manifest import LoraSpec, TfidfSpec
from ptec_udf.model.tfidf import Tfidf
from tests.tiny import tiny_artifact, tiny_backbone, tiny_manifest, tiny_network

ALL_FILES = (MANIFEST, ADAPTER, ADAPTER_CONFIG, HEAD, METRICS, SUMS)
SPEC = TfidfSpec(words=1, characters=2)
LORA = {"prompt": None, "lora": LoraSpec(rank=2, alpha=2)}
LAYER = "base_model.model.encoder.layer.0.attention.self.query"


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of an artifact that a test may change."""
    return shutil.copytree(tiny_artifact(tiny_folder), tmp_path / "model")


@pytest.fixture
def made(tiny_folder):
    return load_artifact(tiny_artifact(tiny_folder))


def reseal(made, files=None, **changes):
    """Change fields and files, with hashes that fit."""
    return seal(made.manifest.model_copy(update=changes), {**made.files, **(files or {})})


def id_of(made, **changes):
    return read_artifact(reseal(made, **changes)).model_id


def with_hashes(files, without=""):
    """Compute the hashes again, as an attacker can."""
    files = {name: data for name, data in files.items() if name not in (SUMS, without)}
    return files | {SUMS: "".join(f"{sha256(data).hexdigest()}  {name}\n" for name, data in files.items()).encode()}


class TestRoundTrip:
    def test_returns_manifest_and_tensors(self, load_tiny, tiny_folder, tmp_path):
        network = tiny_network(*load_tiny("bert"), "deep", seed=3)
        metrics = {"splits": {"dev": {"overall": {"map": 0.25}}}}
        manifest = tiny_manifest(tiny_backbone(tiny_folder, "bert"), network)
        export([network], manifest, metrics, tmp_path / "out")
        made = load_artifact(tmp_path / "out")
        assert (made.manifest, made.metrics, len(made.model_id)) == (manifest, metrics, 32)
        fused = network.head.fused()
        (member,) = made.members
        for found, expected in zip(member[:3], (network.prompt, fused.weight, fused.bias), strict=True):
            np.testing.assert_array_equal(found, expected.detach().numpy())

    def test_of_scoring_files_needs_no_others(self, made):
        read = read_artifact(made.scoring_files)
        assert (set(read.files), read.metrics) == ({SUMS, MANIFEST, ADAPTER, HEAD}, {})

    def test_files_are_no_pickles_and_name_no_path(self, made, tiny_folder):
        assert set(made.files) == set(ALL_FILES)
        for name in {*ALL_FILES} - {SUMS}:
            assert json.loads(made.files[name]) if name.endswith(".json") else load(made.files[name])
        config = json.loads(made.files[ADAPTER_CONFIG])
        assert config["base_model_name_or_path"] == tiny_backbone(tiny_folder, "bert")
        assert config["peft_type"] == "PREFIX_TUNING"


class TestRefused:
    def test_changed_or_missing_files_all_at_once(self, folder):
        (folder / ADAPTER).write_bytes(b"")
        for name in (HEAD, METRICS):
            (folder / name).unlink()
        with pytest.raises(ArtifactError) as caught:
            load_artifact(folder)
        missing = [f"{folder / name}: file of {SUMS} is missing" for name in (HEAD, METRICS)]
        changed = [f"{folder / ADAPTER}: does not fit {SUMS}"]
        assert [error.split(";")[0] for error in caught.value.errors] == missing + changed

    def test_another_model(self, folder):
        assert load_artifact(folder, load_artifact(folder).model_id)
        with pytest.raises(ArtifactError, match="must be model feed"):
            load_artifact(folder, "feed")

    @pytest.mark.parametrize(
        ("change", "rule"),
        [
            ({"format_version": 2}, "format_version: Input should be 1; use the release that wrote it"),
            ({"surprise": 1}, "surprise: Extra inputs"),
            ({"template": "no field"}, "template: template must have at least one field"),
            ({"created": "yesterday"}, "created: Input should be a valid datetime"),
            ({"max_tokens": 7}, "max_tokens: Input should be greater than or equal to 8"),
            ({"lora": {"rank": 2, "alpha": 2}}, "prompt and lora must not both be set"),
            ({"backbone": None}, "backbone or tfidf must be set"),
            ({"pooling": None}, "pooling must be set if and only if backbone is"),
        ],
    )
    def test_wrong_manifest(self, made, change, rule):
        manifest = json.dumps(json.loads(made.files[MANIFEST]) | change).encode()
        with pytest.raises(ArtifactError, match=rule):
            read_artifact(with_hashes(made.files | {MANIFEST: manifest}))

    def test_files_that_the_manifest_does_not_need(self, made):
        for files in (with_hashes({**made.files, "more.bin": b""}), with_hashes(made.files, without=METRICS)):
            with pytest.raises(ArtifactError, match="must name adapter_config"):
                read_artifact(files)

    def test_adapter_of_another_kind(self, made):
        lora = {f"{LAYER}.lora_A.weight": torch.zeros(2, 32), f"{LAYER}.lora_B.weight": torch.zeros(32, 2)}
        half, prompt = dict(list(lora.items())[:1]), load(made.files[ADAPTER])
        for changes, adapter in [({}, lora), (LORA, prompt), (LORA, half), (LORA, {}), ({"members": 3}, prompt)]:
            with pytest.raises(ArtifactError, match="must contain the prompt or LoRA"):
                read_artifact(reseal(made, {ADAPTER: save(adapter)}, **changes))
        assert read_artifact(reseal(made, {ADAPTER: save(lora)}, **LORA)).members[0].prompt is None

    def test_head_of_another_kind(self, made):
        head = load(made.files[HEAD])
        terms = Tfidf(SPEC, 3, {"wind": 2}, {"ab": 1}).to_json()
        half = {name: value.bfloat16() for name, value in head.items()}
        for files, changes, rule in (
            ({}, {"labels": made.manifest.labels[:-1]}, "must contain the head"),
            ({HEAD: save({"weight": head["weight"]})}, {}, "must contain the head"),
            ({}, {"pooling": "label_attention"}, "must contain the head"),
            ({HEAD: save(head | {"queries": head["weight"].clone()})}, {}, "must contain the head"),
            ({TFIDF: terms}, {"tfidf": SPEC}, "must contain the head"),
            ({TFIDF: b'{"rows": 3}'}, {"tfidf": SPEC}, r"counts in tfidf\.json"),
            ({HEAD: save(half)}, {}, "must have float32 safetensors"),
            ({HEAD: b"no tensors"}, {}, "must have float32 safetensors"),
        ):
            with pytest.raises(ArtifactError, match=rule):
                read_artifact(reseal(made, files, **changes))


class TestIds:
    def test_model_id_ignores_how_and_where_a_model_was_made(self, made, tmp_path):
        manifest = made.manifest
        changes = {
            "backbone": manifest.backbone.model_copy(update={"name": f"path:{tmp_path}"}),
            "extract": manifest.extract.model_copy(update={"source": "other", "source_id": "o", "version": 7}),
            "created": manifest.created.replace(year=2027),
            "packages": {"torch": "99"},
        }
        assert id_of(made, files={METRICS: b"{}"}, **changes) == made.model_id

    def test_model_id_changes_with_everything_that_decides_a_score(self, made):
        labels, backbone = made.manifest.labels, made.manifest.backbone
        changes = [
            {},
            {"template": "{name}"},
            {"labels": [label.model_copy(update={"threshold": 0.4}) for label in labels]},
            {"labels": labels[::-1]},
            {"backbone": backbone.model_copy(update={"content_hash": "0" * 64})},
            {"max_tokens": 31},
            {"pooling": "last"},
            {"threshold_logit": 0.25},
        ]
        found = [id_of(made, **change) for change in changes]
        for name in (ADAPTER, HEAD):
            tensors = {key: value + 1 for key, value in load(made.files[name]).items()}
            found.append(id_of(made, files={name: save(tensors)}))
        assert found[0] == made.model_id
        assert len(set(found)) == len(found)

    def test_logits_id_is_network_dtype_and_engine(self, made):
        def logits_id(*options, **changes):
            return read_artifact(reseal(made, **changes)).logits_id(*options or ("float32",))

        labels = [label.model_copy(update={"threshold": 0.4, "scale": 2.0}) for label in made.manifest.labels]
        assert logits_id(labels=labels, threshold_logit=3.0) == logits_id()
        renamed = [labels[0].model_copy(update={"name": "other"}), *labels[1:]]
        others = [logits_id(labels=renamed), logits_id(template="{name}"), logits_id(max_tokens=16)]
        others += [logits_id("bfloat16"), logits_id("float32", "openvino")]
        assert len({logits_id(), *others}) == 6


class TestExport:
    def test_replaces_an_earlier_artifact(self, load_tiny, tiny_folder, folder):
        network = tiny_network(*load_tiny("bert"), "input", seed=9)
        (folder / "stray").write_text("")
        before = load_artifact(folder).model_id
        export([network], tiny_manifest(tiny_backbone(tiny_folder, "bert"), network), {}, folder)
        assert load_artifact(folder).model_id != before
        assert not (folder / "stray").exists()
