"""An artifact comes back as it was written, or is refused with the name of the wrong file."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from ptec_udf.errors import ArtifactError
from ptec_udf.model.artifact import load_artifact, read_artifact
from ptec_udf.model.artifact_format import ADAPTER, ADAPTER_CONFIG, HEAD, MANIFEST, METRICS, TFIDF, logits_id, seal
from ptec_udf.model.manifest import LoraSpec, Manifest, TfidfSpec
from ptec_udf.model.tfidf import Tfidf
from tests.tiny import LABELS, tiny_artifact, tiny_backbone, tiny_manifest, tiny_network
from training.export import export

ALL_FILES = (MANIFEST, ADAPTER, ADAPTER_CONFIG, HEAD, METRICS)
SPEC = TfidfSpec(words=1, characters=2)


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of an artifact that a test may change."""
    return shutil.copytree(tiny_artifact(tiny_folder), tmp_path / "model")


def other_files(made):
    return {name: data for name, data in made.files.items() if name != MANIFEST}


def reseal(made, files=None, **changes):
    """Change fields and files, with hashes that fit."""
    files = other_files(made) | (files or {})
    _, manifest = seal(made.manifest.model_copy(update=changes), files)
    return files | {MANIFEST: manifest}


def id_of(made, files=None, **changes):
    return json.loads(reseal(made, files, **changes)[MANIFEST])["model_id"]


class TestRoundTrip:
    def test_gives_manifest_and_tensors(self, load_tiny, tiny_folder, tmp_path):
        network = tiny_network(*load_tiny("bert"), "deep", seed=3)
        metrics = {"splits": {"dev": {"overall": {"map": 0.25}}}}
        sealed = export(network, tiny_manifest(tiny_backbone(tiny_folder, "bert"), network), metrics, tmp_path / "out")
        made = load_artifact(tmp_path / "out")
        assert (made.manifest, made.metrics, len(made.model_id)) == (sealed, metrics, 32)
        fused = network.head.fused()
        (member,) = made.members
        for found, expected in zip(member[:3], (network.prompt, fused.weight, fused.bias), strict=True):
            np.testing.assert_array_equal(found, expected.detach().numpy())

    def test_of_scoring_files_needs_no_others(self, folder):
        made = read_artifact(load_artifact(folder).scoring_files)
        assert (set(made.files), made.metrics) == ({MANIFEST, ADAPTER, HEAD}, {})

    def test_keeps_label_names_of_any_script(self, tiny_folder, load_tiny):
        manifest = tiny_manifest(tiny_backbone(tiny_folder, "bert"), tiny_network(*load_tiny("bert")))
        names = ["Énergie 'verte'", "金融", 'a"b\\c\n', "x.y", "\u2028z"]
        labels = [label.model_copy(update={"name": name}) for label, name in zip(manifest.labels, names, strict=True)]
        sealed, data = seal(manifest.model_copy(update={"labels": labels}), {name: b"" for name in ALL_FILES[1:]})
        assert Manifest.model_validate_json(data) == sealed

    def test_files_are_no_pickles_and_name_no_path(self, folder, tiny_folder):
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        assert set(files) == set(ALL_FILES)
        for name, data in files.items():
            assert json.loads(data) if name.endswith(".json") else load(data)
        config = json.loads(files[ADAPTER_CONFIG])
        assert config["base_model_name_or_path"] == tiny_backbone(tiny_folder, "bert")
        assert config["peft_type"] == "PREFIX_TUNING"


class TestRefused:
    @pytest.mark.parametrize("at", [0, -1, 20])
    @pytest.mark.parametrize("name", ALL_FILES)
    def test_changed_byte(self, folder, name, at):
        data = bytearray((folder / name).read_bytes())
        data[at] ^= 1
        (folder / name).write_bytes(data)
        with pytest.raises(ArtifactError) as caught:
            load_artifact(folder)
        assert all(str(folder / name) in error for error in caught.value.errors)

    def test_changed_or_missing_files_all_at_once(self, folder):
        for name in (HEAD, ADAPTER):
            (folder / name).write_bytes(b"")
        with pytest.raises(ArtifactError) as caught:
            load_artifact(folder)
        assert len(caught.value.errors) == 2
        for name in (HEAD, METRICS):
            (folder / name).unlink()
        with pytest.raises(ArtifactError) as caught:
            load_artifact(folder)
        assert caught.value.errors == [f"{folder / name}: file of the artifact is missing" for name in (HEAD, METRICS)]

    def test_another_model(self, folder):
        assert load_artifact(folder, load_artifact(folder).model_id)
        with pytest.raises(ArtifactError, match="must be model feed"):
            load_artifact(folder, "feed")

    @pytest.mark.parametrize(
        ("change", "rule"),
        [
            ({"format_version": 2}, "format_version must be 1, was: 2"),
            ({"surprise": 1}, "surprise: Extra inputs"),
            ({"template": "no field"}, "template: template must have at least one field"),
            ({"created": "yesterday"}, "created: Invalid isoformat string"),
            ({"max_tokens": 7}, "max_tokens: Input should be greater than or equal to 8"),
            ({"curve": [[0, 0], [1, 0]]}, "each point of the curve must be right of the one before"),
            ({"lora": {"rank": 2, "alpha": 2}}, "prompt and lora must not both be set"),
            ({"backbone": None}, "backbone or tfidf must be set"),
            ({"pooling": None}, "pooling must be set if and only if backbone is"),
            ({"template": "{other}"}, "its checksum differs"),
        ],
    )
    def test_edited_manifest(self, folder, change, rule):
        values = json.loads((folder / MANIFEST).read_text("utf-8")) | change
        (folder / MANIFEST).write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", "utf-8")
        with pytest.raises(ArtifactError, match=rule):
            load_artifact(folder)

    @pytest.mark.parametrize("content", ["[]", "{", "", "[" * 100_000])
    def test_manifest_that_is_no_object(self, folder, content):
        (folder / MANIFEST).write_text(content)
        with pytest.raises(ArtifactError, match="must be a JSON object"):
            load_artifact(folder)

    def test_files_that_the_manifest_does_not_need(self, folder):
        made = load_artifact(folder)
        with pytest.raises(ArtifactError, match="model_id or files do not fit"):
            read_artifact(reseal(made, {"more.bin": b""}))

    def test_adapter_of_another_kind(self, folder):
        made = load_artifact(folder)
        name = "base_model.model.encoder.layer.0.attention.self.query"
        lora = {f"{name}.lora_A.weight": torch.zeros(2, 32), f"{name}.lora_B.weight": torch.zeros(32, 2)}
        half, prompt = dict(list(lora.items())[:1]), load(made.files[ADAPTER])
        with_lora = {"prompt": None, "lora": LoraSpec(rank=2, alpha=2)}
        cases = [({}, lora), (with_lora, prompt), (with_lora, half), (with_lora, {}), ({"members": 3}, prompt)]
        for changes, adapter in [*cases, (with_lora | {"lora": LoraSpec(rank=3, alpha=2)}, lora)]:
            with pytest.raises(ArtifactError, match="must contain the prompt or LoRA"):
                read_artifact(reseal(made, {ADAPTER: save(adapter)}, **changes))
        assert read_artifact(reseal(made, {ADAPTER: save(lora)}, **with_lora)).members[0].prompt is None

    def test_head_of_another_shape(self, folder):
        made = load_artifact(folder)
        head = load(made.files[HEAD])
        terms = Tfidf(SPEC, 3, {"wind": 2}, {"ab": 1}).to_json()
        with_queries = save(head | {"queries": head["weight"][1:].clone()})
        half = {name: value.bfloat16() for name, value in head.items()}
        for files, changes, rule in (
            ({}, {"labels": made.manifest.labels[:-1]}, "weight and bias of all labels"),
            ({HEAD: save({"weight": head["weight"]})}, {}, "weight and bias of all labels"),
            ({}, {"pooling": "label_attention"}, "queries of the weight's shape with label_attention"),
            ({HEAD: with_queries}, {"pooling": "label_attention"}, "queries of the weight's shape"),
            ({HEAD: with_queries}, {}, "queries of the weight's shape with label_attention, and only then"),
            ({TFIDF: terms}, {"tfidf": SPEC}, "a weight for each term of tfidf.json"),
            ({TFIDF: b'{"rows": 3}'}, {"tfidf": SPEC}, r"tfidf\.json: must contain terms"),
            ({HEAD: save(half)}, {}, "must be float32 safetensors"),
            ({HEAD: b"no tensors"}, {}, "must be float32 safetensors"),
        ):
            with pytest.raises(ArtifactError, match=rule):
                read_artifact(reseal(made, files, **changes))


class TestIds:
    def test_model_id_ignores_how_and_where_a_model_was_made(self, folder, tmp_path):
        made = load_artifact(folder)
        backbone = made.manifest.backbone.model_copy(update={"name": f"path:{tmp_path}"})
        extract = made.manifest.extract.model_copy(update={"source": "other", "source_id": "o", "version": 7})
        changes = {"created": "2027-01-01T00:00:00+00:00", "packages": {"torch": "99"}}
        found = id_of(made, {METRICS: b"{}"}, **changes, backbone=backbone, extract=extract)
        assert found == made.model_id

    def test_model_id_changes_with_everything_that_decides_a_score(self, folder):
        made = load_artifact(folder)
        manifest = made.manifest
        thresholds = [label.model_copy(update={"threshold": 0.4}) for label in manifest.labels]
        backbone = manifest.backbone.model_copy(update={"content_hash": "0" * 64})
        found = [
            id_of(made, **changes)
            for changes in (
                {},
                {"template": "{name}"},
                {"labels": thresholds},
                {"labels": manifest.labels[::-1]},
                {"backbone": backbone},
                {"max_tokens": 31},
                {"pooling": "last"},
                {"curve": [(-1.0, -2.0), (1.0, 1.5)]},
            )
        ]
        found += [id_of(made, {name: made.files[name] + b" "}) for name in (ADAPTER, HEAD)]
        assert found[0] == made.model_id
        assert len(set(found)) == len(found)

    def test_logits_id_is_network_dtype_and_engine(self, folder):
        made = load_artifact(folder)
        manifest = made.manifest
        labels = [label.model_copy(update={"threshold": 0.4, "scale": 2.0, "offset": 1.0}) for label in manifest.labels]
        recalibrated = {"labels": labels, "calibrator": "isotonic", "curve": [(-1.0, -2.0), (1.0, 1.5)]}

        def network_id(**changes):
            return read_artifact(reseal(made, **changes)).network_id

        assert network_id(**recalibrated, threshold_logit=3.0) == made.network_id
        others = [network_id(**{name: value}) for name, value in (("template", "{name}"), ("max_tokens", 16))]
        renamed = [manifest.labels[0].model_copy(update={"name": "other"}), *manifest.labels[1:]]
        assert len({made.network_id, network_id(labels=renamed), *others}) == 4
        ids = [made.logits_id("float32"), made.logits_id("bfloat16"), made.logits_id("float32", "openvino")]
        assert len(set(ids)) == 3
        assert ids[0] == logits_id(manifest, "float32")

    def test_logits_id_without_a_backbone_ignores_the_dtype(self, folder):
        backbone = {"backbone": None, "max_tokens": None, "pooling": None, "prompt": None, "tfidf": SPEC}
        manifest = load_artifact(folder).manifest.model_copy(update=backbone)
        assert logits_id(manifest, "float32") == logits_id(manifest, "bfloat16")

    def test_equal_networks_have_equal_artifacts(self, folder, tmp_path):
        made, other = load_artifact(folder), load_artifact(tiny_artifact(tmp_path))
        assert other.model_id == made.model_id
        assert all(other.files[name] == made.files[name] for name in (ADAPTER, HEAD, METRICS))


class TestExport:
    def test_replaces_an_earlier_artifact(self, load_tiny, tiny_folder, folder):
        network = tiny_network(*load_tiny("bert"), "input", seed=9)
        (folder / "stray").write_text("")
        sealed = export(network, tiny_manifest(tiny_backbone(tiny_folder, "bert"), network), {}, folder)
        assert load_artifact(folder).model_id == sealed.model_id
        assert not (folder / "stray").exists()

    def test_refuses_a_head_whose_scaling_it_cannot_fuse(self, load_tiny, tiny_folder, tmp_path):
        network = tiny_network(*load_tiny("bert"))
        manifest = tiny_manifest(tiny_backbone(tiny_folder, "bert"), network)
        network.head = torch.nn.Linear(32, len(LABELS))
        with pytest.raises(TypeError, match="must be a StandardisedHead, was: Linear"):
            export(network, manifest, {}, tmp_path / "out")
        assert list(tmp_path.iterdir()) == []
