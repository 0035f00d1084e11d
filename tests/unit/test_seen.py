"""What an artifact says that it has learned from."""

from __future__ import annotations

import pytest
import torch

from ptec_udf.config_file import load_config
from ptec_udf.errors import ArtifactError
from ptec_udf.model.artifact import load_artifact, read_artifact
from ptec_udf.model.artifact_format import SEEN
from tests.tiny import tiny_artifact, tiny_backbone, tiny_extract
from tests.unit.trainings import QUICK
from tests.variants import seen_of, variant
from training.config import TrainConfig
from training.data.dataset import Examples, read_judging, read_splits
from training.data.provenance import KEYS, TEXTS, is_seen, seen_by
from training.fit.inputs import prepare

RECORD = {"source_id": "made-up", "name": "crm.companies"}


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    return tiny_extract(tmp_path_factory.mktemp("seen") / "extract", n=120)


def test_all_rows_that_decided_anything_and_no_others(run, tiny_folder, extract, tmp_path):
    earlier = run(tmp_path / "earlier", "most_rows=60", extract=extract, epochs=1)
    seen, splits = seen_by(earlier), read_splits(extract, validation_share=0.15, most_rows=60)
    for split in ("train", "validation"):
        assert is_seen(seen, RECORD, splits[split].keys, splits[split].texts).all()
        assert len(splits[split])
    for split in ("dev", "test"):
        assert not is_seen(seen, RECORD, splits[split].keys, splits[split].texts).any()
    assert (len(seen[KEYS]), len(seen[TEXTS])) == (120, 60)

    other = tiny_extract(tmp_path / "other", n=120, seed=1)
    settings = [f"extract={other}", f"out={tmp_path / 'later'}", f"backbone={tiny_backbone(tiny_folder, 'bert')}"]

    def seen_after(start):
        config = load_config(TrainConfig, None, [*settings, *QUICK, f"start_from={start}"])
        return prepare(config, ("train",)).seen

    mine, after = seen_of(other), seen_after(tmp_path / "earlier")
    for name in (TEXTS, KEYS):
        assert torch.equal(after[name], torch.cat([seen[name], mine[name]]).unique())
    assert seen_after(variant(tmp_path / "earlier", tmp_path / "silent", seen=False)) is None


def test_a_company_is_known_by_its_text_or_by_its_key_in_its_source(extract):
    rows = read_judging(extract, "train")
    seen = seen_of(extract)
    other_texts = Examples(rows.keys, [f"{text} changed" for text in rows.texts], rows.targets)
    assert is_seen(seen, RECORD, other_texts.keys, other_texts.texts).all()
    for changed in ({"source_id": "of a table that took its place"}, {"name": "crm.renamed"}):
        assert is_seen(seen, RECORD | changed, other_texts.keys, other_texts.texts).all()
    another = {"source_id": "another", "name": "another table"}
    assert not is_seen(seen, another, other_texts.keys, other_texts.texts).any()
    assert is_seen(seen, another, rows.keys, rows.texts).all()


def test_the_record_does_not_name_the_model_nor_go_to_executors(tiny_folder, extract, tmp_path):
    made = tiny_artifact(tiny_folder)
    kept = load_artifact(variant(made, tmp_path / "kept", seen=seen_of(extract)))
    assert kept.model_id == load_artifact(made).model_id
    assert SEEN not in read_artifact(kept.scoring_files).files
    assert seen_by(load_artifact(made)) is None


@pytest.mark.parametrize("data", [None, b"changed"])
def test_a_record_that_is_missing_or_changed_is_refused(tiny_folder, extract, tmp_path, data):
    place = variant(tiny_artifact(tiny_folder), tmp_path / "kept", seen=seen_of(extract)) / SEEN
    place.unlink() if data is None else place.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"seen\.safetensors: file (of the artifact is missing|was changed)"):
        load_artifact(tmp_path / "kept")
