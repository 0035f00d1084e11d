"""``ptec train --csv`` and ``ptec predict``: from a file to scores in a file, without a warehouse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ptec_jobs.cli import app
from ptec_udf import PtecModel
from tests.tiny import LABELS, tiny_backbone, tiny_companies
from tests.unit.trainings import QUICK

COMPANIES = pd.DataFrame(tiny_companies(200)).assign(labels=lambda frame: frame["labels"].map(";".join))


def ptec(*arguments: object, text: str | None = None) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)), input=text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("files")
    COMPANIES.to_csv(place / "companies.csv", index=False)
    settings = [f"train.{one}" for one in (*QUICK, f"backbone={tiny_backbone(place, 'bert')}", "stopping.epochs=2")]
    options = ("--text-columns", "name,about", "--labels-column", "labels", "--key-column", "key")
    done = ptec(
        "train", "--csv", place / "companies.csv", *options, "--out", place / "artifact", "--json",
        *(word for one in settings for word in ("--set", one)),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["metrics"]["dev"]["map"] > 0.4
    return place


def test_scores_of_a_file_are_those_of_the_model(folder: Path) -> None:
    done = ptec("predict", folder / "artifact", folder / "companies.csv", "--out", folder / "scores.csv")
    assert done.exit_code == 0, done.output
    found, model = pd.read_csv(folder / "scores.csv"), PtecModel.load(folder / "artifact")
    assert model.labels == list(LABELS)
    np.testing.assert_allclose(found[list(LABELS)], model.predict_proba(COMPANIES), rtol=1e-6)
    assert found["key"].tolist() == COMPANIES["key"].tolist()
    joined = ["; ".join(names) for names in model.predict(COMPANIES)]
    assert found["labels (PTEC)"].fillna("").tolist() == joined
    assert found["labels"].tolist() == COMPANIES["labels"].tolist()


def test_lines_of_standard_input_are_texts(folder: Path) -> None:
    done = ptec("predict", folder / "artifact", "--json", text="solar wind grid\n\nhotel flight beach\n")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert [(row["line"], row["status"]) for row in rows] == [(1, "ok"), (2, "empty"), (3, "ok")]


def test_errors_name_the_remedy(folder: Path) -> None:
    pd.DataFrame({"nmae": ["a"], "about": ["b"]}).to_csv(folder / "other.csv", index=False)
    done = ptec("predict", folder / "artifact", folder / "other.csv")
    assert done.exit_code == 2
    assert "the file has no column 'name'; did you mean 'nmae'?" in done.output
    done = ptec("train", "--csv", folder / "companies.csv")
    assert done.exit_code == 2
    assert "--csv needs --text-columns and --labels-column" in done.output
