"""An artifact comes back as it was written, or is refused with the name of the file that is at fault."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

from ptec_udf.errors import ArtifactError
from ptec_udf.model.artifact import load_artifact, read_artifact
from ptec_udf.model.artifact_format import ADAPTER, ADAPTER_CONFIG, HEAD, MANIFEST, METRICS, _canonical, _checksum, seal
from ptec_udf.model.manifest import LoraSpec, Manifest
from tests.tiny import LABELS, TEMPLATE, tiny_artifact, tiny_backbone, tiny_manifest, tiny_network
from training.export import export

ALL_FILES = (MANIFEST, ADAPTER, ADAPTER_CONFIG, HEAD, METRICS)


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of an artifact that a test may change."""
    return shutil.copytree(tiny_artifact(tiny_folder), tmp_path / "model")


def resealed(folder, **changes):
    """Seal an artifact's manifest again with other fields; return its model_id."""
    made = load_artifact(folder)
    files = {name: data for name, data in made.files.items() if name != MANIFEST}
    return seal(made.manifest.model_copy(update=changes), files)[0].model_id


def test_round_trip(load_tiny, tiny_folder, tmp_path):
    network = tiny_network(*load_tiny("bert"), "deep", seed=3)
    metrics = {"splits": {"dev": {"overall": {"map": 0.25}}}}
    manifest = tiny_manifest(tiny_backbone(tiny_folder, "bert"), network)
    sealed = export(network, manifest, metrics, tmp_path / "out")
    made = load_artifact(tmp_path / "out")
    assert made.manifest == sealed
    assert made.metrics == metrics
    assert torch.equal(made.prompt, network.prompt)
    fused = network.head.fused()
    assert torch.equal(made.head_weight, fused.weight)
    assert torch.equal(made.head_bias, fused.bias)
    assert [label.name for label in made.manifest.labels] == list(LABELS)
    assert made.manifest.template == TEMPLATE
    assert len(made.model_id) == 32
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_executor_is_sent_what_it_needs_and_no_more(folder):
    made = read_artifact(load_artifact(folder).scoring_files)
    assert set(made.files) == {MANIFEST, ADAPTER, HEAD}
    assert made.metrics == {}
    assert torch.equal(made.prompt, load_artifact(folder).prompt)


@pytest.mark.parametrize("change", [{"model_id": "/home"}, {"model_id": ""}, {"threshold_logit": 9.0}, {"files": {}}])
def test_manifest_that_was_changed_with_a_fitting_checksum_is_refused(folder, change):
    manifest = load_artifact(folder).manifest.model_copy(update=change)
    manifest = manifest.model_copy(update={"checksum": _checksum(manifest)})
    (folder / MANIFEST).write_bytes(_canonical(manifest))
    with pytest.raises(ArtifactError, match="model_id and files do not fit"):
        load_artifact(folder)


def test_artifact_of_another_model_than_wanted_is_refused(folder):
    assert load_artifact(folder, load_artifact(folder).model_id)
    with pytest.raises(ArtifactError, match="must hold model feed"):
        load_artifact(folder, "feed")


@pytest.mark.parametrize("at", [0, -1, None], ids=["first", "last", "middle"])
@pytest.mark.parametrize("name", ALL_FILES)
def test_changed_byte_is_refused_with_the_name_of_the_file(folder, name, at):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        load_artifact(folder)
    assert all(str(folder / name) in fault for fault in caught.value.errors)


def test_all_changed_files_are_named(folder):
    for name in (HEAD, ADAPTER):
        (folder / name).write_bytes(b"")
    with pytest.raises(ArtifactError) as caught:
        load_artifact(folder)
    assert len(caught.value.errors) == 2


def test_all_missing_files_are_named(folder):
    for name in (HEAD, METRICS):
        (folder / name).unlink()
    with pytest.raises(ArtifactError) as caught:
        load_artifact(folder)
    assert caught.value.errors == [f"{folder / name}: file of the artifact is missing" for name in (HEAD, METRICS)]


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_unknown_format_version_is_refused(folder, version):
    place = folder / MANIFEST
    values = json.loads(place.read_text("utf-8")) | {"format_version": version}
    place.write_text(json.dumps(values), "utf-8")
    with pytest.raises(ArtifactError, match=rf"format_version must be 1, was: {version!r}"):
        load_artifact(folder)


LABEL = {"threshold": 0.5, "scale": 1.0, "offset": 0.0, "training_positives": 1}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"template": None}, "template: Input should be a valid string"),
        ({"template": "no field"}, "template: template must have at least one field"),
        ({"created": "yesterday"}, "created: Invalid isoformat string"),
        ({"labels": [LABEL | {"name": " "}]}, "labels: .*must have a name that can be seen, blank were: ' '"),
        ({"max_tokens": 7}, "max_tokens: Input should be greater than or equal to 8"),
        ({"template": "{other}"}, "its checksum differs"),
    ],
)
def test_manifest_that_was_edited_is_refused(folder, change, rule):
    place = folder / MANIFEST
    values = json.loads(place.read_text("utf-8")) | change
    place.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", "utf-8")
    with pytest.raises(ArtifactError, match=rule):
        load_artifact(folder)


def test_manifest_that_is_no_object_is_refused(folder):
    for content in ("[]", "{", ""):
        (folder / MANIFEST).write_text(content)
        with pytest.raises(ArtifactError, match="must be a JSON object"):
            load_artifact(folder)


def test_adapter_of_another_form_than_the_manifest_says_is_refused(folder):
    """Each file's hash is right, so that only the form is wrong."""
    made = load_artifact(folder)
    layer = "base_model.model.encoder.layer.0.attention.self.query"
    lora = {f"{layer}.lora_A.weight": torch.zeros(2, 32), f"{layer}.lora_B.weight": torch.zeros(32, 2)}
    half, rank_2 = dict(list(lora.items())[:1]), LoraSpec(rank=2, alpha=2)
    of_lora = {"prompt": None, "lora": rank_2}
    cases = [({}, lora), (of_lora, made.adapter), (of_lora, half), (of_lora, {}), ({}, lora | made.adapter)]
    cases.append(({"prompt": None, "lora": LoraSpec(rank=3, alpha=2)}, lora))
    for changes, adapter in cases:
        files = {name: data for name, data in made.files.items() if name != MANIFEST}
        files[ADAPTER] = save(dict(adapter))
        _, manifest = seal(made.manifest.model_copy(update=changes), files)
        with pytest.raises(ArtifactError, match=r"must hold what manifest\.json says, a prompt or LoRA"):
            read_artifact(files | {MANIFEST: manifest})
    files[ADAPTER] = save(lora)
    _, manifest = seal(made.manifest.model_copy(update=of_lora), files)
    assert read_artifact(files | {MANIFEST: manifest}).prompt is None


def test_label_names_of_any_script_come_back(tiny_folder, load_tiny):
    network = tiny_network(*load_tiny("bert"))
    manifest = tiny_manifest(tiny_backbone(tiny_folder, "bert"), network)
    names = ["Énergie 'verte'", "金融", 'a"b\\c\n', "x.y", "\u2028z"]
    labels = [label.model_copy(update={"name": name}) for label, name in zip(manifest.labels, names, strict=True)]
    files = {name: b"" for name in ALL_FILES if name != MANIFEST}
    sealed, data = seal(manifest.model_copy(update={"labels": labels}), files)
    assert Manifest.model_validate_json(data) == sealed
    assert [label.name for label in sealed.labels] == names


def test_model_id_does_not_depend_on_how_and_where_a_model_came_to_be(folder, tmp_path):
    made = load_artifact(folder)
    manifest = made.manifest
    elsewhere = manifest.backbone.model_copy(update={"name": f"path:{tmp_path}"})
    read_elsewhere = manifest.extract.model_copy(update={"source": str(tmp_path), "source_id": "o", "version": 7})
    for change in (
        {"created": "2027-01-01T00:00:00+00:00"},
        {"packages": {"torch": "99"}},
        {"backbone": elsewhere},
        {"extract": read_elsewhere},
    ):
        assert resealed(folder, **change) == made.model_id
    files = {name: data for name, data in made.files.items() if name != MANIFEST}
    assert seal(manifest, files | {METRICS: b"{}"})[0].model_id == made.model_id


def test_model_id_changes_with_everything_that_decides_a_score(folder):
    made = load_artifact(folder)
    manifest = made.manifest
    other_threshold = [label.model_copy(update={"threshold": 0.4}) for label in manifest.labels]
    other_scale = [label.model_copy(update={"scale": 2.0}) for label in manifest.labels]
    other_backbone = manifest.backbone.model_copy(update={"content_hash": "0" * 64})
    changes = [
        {},
        {"template": "{name}"},
        {"labels": other_threshold},
        {"labels": other_scale},
        {"labels": manifest.labels[::-1]},
        {"backbone": other_backbone},
        {"max_tokens": 31},
        {"pooling": "last"},
        {"curve": [(-1.0, -2.0), (1.0, 1.5)]},
    ]
    found = [resealed(folder, **change) for change in changes]
    files = {name: data for name, data in made.files.items() if name != MANIFEST}
    for name in (ADAPTER, HEAD):
        found.append(seal(manifest, files | {name: files[name][:-1] + b"\x01"})[0].model_id)
    assert found[0] == made.model_id
    assert len(set(found)) == len(found)


def test_exporting_equal_networks_twice_gives_equal_files(tiny_folder, tmp_path, folder):
    assert tiny_artifact(tmp_path).name == "bert_deep_0"
    other = load_artifact(tiny_artifact(tmp_path))
    made = load_artifact(folder)
    assert other.model_id == made.model_id
    for name in (ADAPTER, HEAD, METRICS):
        assert other.files[name] == made.files[name]


def test_no_pickle_and_no_local_path_in_the_files(folder, tiny_folder):
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert set(files) == set(ALL_FILES)
    for name, data in files.items():
        assert json.loads(data) if name.endswith(".json") else load(data)
    config = json.loads(files[ADAPTER_CONFIG])
    assert config["base_model_name_or_path"] == tiny_backbone(tiny_folder, "bert")
    assert config["peft_type"] == "PREFIX_TUNING"


def test_export_replaces_an_earlier_artifact(load_tiny, tiny_folder, folder):
    network = tiny_network(*load_tiny("bert"), "input", seed=9)
    (folder / "stray").write_text("")
    sealed = export(network, tiny_manifest(tiny_backbone(tiny_folder, "bert"), network), {}, folder)
    assert load_artifact(folder).model_id == sealed.model_id
    assert not (folder / "stray").exists()


def test_export_refuses_a_head_whose_scaling_it_cannot_fuse(load_tiny, tiny_folder, tmp_path):
    network = tiny_network(*load_tiny("bert"))
    manifest = tiny_manifest(tiny_backbone(tiny_folder, "bert"), network)
    network.head = torch.nn.Linear(32, 5)
    with pytest.raises(TypeError, match="must be a StandardisedHead, was: Linear"):
        export(network, manifest, {}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_logits_id_is_that_of_what_decides_logits(folder):
    made = load_artifact(folder)
    manifest = made.manifest
    labels = [label.model_copy(update={"threshold": 0.4, "scale": 2.0, "offset": 1.0}) for label in manifest.labels]
    renamed = [manifest.labels[0].model_copy(update={"name": "other"}), *manifest.labels[1:]]
    origin = manifest.extract.model_copy(update={"fingerprint": "e" * 64})

    def logits_id(**changes):
        return replace(made, manifest=manifest.model_copy(update=changes)).logits_id

    of_logits = {"labels": labels, "calibrator": "isotonic", "curve": [(-1.0, -2.0), (1.0, 1.5)]}
    assert made.logits_id == logits_id(**of_logits, threshold_logit=3.0, extract=origin)
    others = [
        logits_id(labels=renamed),
        logits_id(labels=manifest.labels[::-1]),
        logits_id(template="{name}"),
        logits_id(max_tokens=16),
        logits_id(files={**manifest.files, HEAD: "0" * 64}),
        logits_id(files={**manifest.files, ADAPTER: "0" * 64}),
    ]
    assert len({made.logits_id, *others}) == 1 + len(others)
