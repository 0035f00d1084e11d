"""``PtecModel``: labels and probabilities of texts and tables, and the ways to load and save a model."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ptec_udf import PtecModel
from ptec_udf.errors import ArtifactError, ConfigError
from ptec_udf.model.artifact import ALL_FILES
from tests.hub_server import HubServer
from tests.plain import PlainScorer
from tests.tiny import LABELS, tiny_artifact, tiny_companies, tiny_text

COMPANIES = tiny_companies(40)
TEXTS = [tiny_text(company) for company in COMPANIES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_artifact(tmp_path_factory.mktemp("model"), "bert", "deep")


@pytest.fixture(scope="module")
def model(folder: Path) -> PtecModel:
    return PtecModel.load(folder)


class TestScoring:
    def test_probabilities_are_those_of_an_independent_scorer(self, model: PtecModel, folder: Path) -> None:
        plain = PlainScorer(folder)
        found = model.predict_proba(TEXTS)
        assert list(found.columns) == model.labels == list(LABELS)
        np.testing.assert_allclose(found, pd.DataFrame([plain.probabilities(text) for text in TEXTS]), atol=1e-5)

    def test_labels_are_at_or_over_their_threshold(self, model: PtecModel) -> None:
        found = model.predict_proba(TEXTS).to_dict("records")
        expected = [[name for name in model.labels if row[name] >= np.float32(model.thresholds[name])] for row in found]
        assert model.predict(TEXTS) == expected
        assert 0 < sum(map(len, expected)) < len(TEXTS) * len(LABELS)

    def test_table_has_the_texts_of_the_template(self, model: PtecModel) -> None:
        frame = pd.DataFrame(COMPANIES, index=range(100, 140))
        found = model.predict_proba(frame)
        assert list(found.index) == list(frame.index)
        np.testing.assert_array_equal(found, model.predict_proba(TEXTS))

    def test_text_without_a_score(self, model: PtecModel) -> None:
        texts = pd.Series([TEXTS[0], None, " ", "\ud800"], index=list("abcd"))
        table = model.predict_table(texts)
        assert list(table["status"]) == ["ok", "empty", "empty", "error"]
        assert list(table["labels"][1:]) == [[], [], []]
        assert table[model.labels].isna().all(axis=1).tolist() == [False, True, True, True]
        assert list(table.index) == list("abcd")
        assert np.isnan(model.logits([None])).all()

    def test_no_texts(self, model: PtecModel) -> None:
        assert model.predict([]) == []
        assert model.predict_proba([]).shape == (0, len(LABELS))

    def test_loads_neither_spark_nor_training(self, folder: Path) -> None:
        code = f"from ptec_udf import PtecModel; PtecModel.load({str(folder)!r}).predict(['a']); import sys; "
        code += "print([name for name in ('pyspark', 'ptec_training', 'sklearn') if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


class TestFiles:
    def test_saved_model_is_the_same(self, model: PtecModel, tmp_path: Path) -> None:
        for _ in range(2):  # the second replaces the first, card and all
            model.save_pretrained(tmp_path / "saved")
        card = (tmp_path / "saved" / "README.md").read_text("utf-8")
        assert card.startswith("---\n")
        assert [name for name in (*LABELS, model.template, model.model_id[:12]) if name not in card] == []
        again = PtecModel.from_pretrained(tmp_path / "saved")
        assert again.model_id == model.model_id
        np.testing.assert_array_equal(again.logits(TEXTS), model.logits(TEXTS))

    def test_other_files_are_kept(self, model: PtecModel, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("dear", "utf-8")
        with pytest.raises(ConfigError, match="files of another kind"):
            model.save(tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]

    def test_missing_and_changed_models_are_refused(self, model: PtecModel, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match="there is no 'absent'"):
            PtecModel.load("absent")
        model.save(tmp_path / "saved")
        with (tmp_path / "saved" / "head.safetensors").open("ab") as file:
            file.write(b"x")
        with pytest.raises(ArtifactError, match=r"head\.safetensors"):
            PtecModel.load(tmp_path / "saved")


class TestHub:
    def test_pushed_model_is_loaded_by_its_name(
        self, model: PtecModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with HubServer() as hub:
            hub.use(monkeypatch, tmp_path / "cache")
            model.push_to_hub("firm/industries", token="hf_secret")
            assert {*hub.files} - {".gitattributes"} == {*model.artifact.files, "README.md"}
            assert {*hub.files} <= {*ALL_FILES, "README.md", ".gitattributes"}
            assert b"hf_secret" not in b"".join(hub.files.values())
            again = PtecModel.load("hf:firm/industries")
            assert again.model_id == PtecModel.from_pretrained("firm/industries").model_id == model.model_id
            with pytest.raises(ArtifactError, match="hf:firm/absent cannot be downloaded"):
                PtecModel.load("hf:firm/absent")


def test_card_has_intervals(folder: Path, model: PtecModel, tmp_path: Path) -> None:
    overall = {"n_rows": 50, "map": 0.5, "macro_f1": 0.4, "ece": None}
    metrics = {"splits": {"dev": {"overall": overall, "intervals": {"map": [0.45, 0.55], "macro_f1": [None, None]}}}}
    model.save(tmp_path / "saved")
    files = model.artifact.files | {"metrics.json": json.dumps(metrics).encode()}  # type: ignore[operator]
    card_of = PtecModel(replace(model.artifact, files=files))
    card_of.save_pretrained(tmp_path / "saved")
    card = (tmp_path / "saved" / "README.md").read_text("utf-8")
    assert "| dev | 50 | 0.500 (0.450 to 0.550) | 0.400 | not measured |" in card
