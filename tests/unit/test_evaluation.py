"""Which rows are evaluated, and the figures of two models on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ptec_training.data.dataset import Examples
from ptec_training.data.folder import DATA, RECORD, read_extract_record
from ptec_training.data.provenance import seen_by
from ptec_training.evaluate.compare import ScoredRows, differences, evaluate, read_evaluation_rows
from ptec_training.evaluate.gate import EvaluateConfig
from ptec_training.evaluate.metrics import macro_f1, mean_average_precision
from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.model.artifact import load_artifact
from tests.tiny import LABELS, TEMPLATE, tiny_artifact, write_rows
from tests.variants import equal, seen_of, variant

N_DEV = 30


@pytest.fixture(scope="module")
def models(companies: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models that record the extract's train rows as learned."""
    folder = tmp_path_factory.mktemp("models")
    made = variant(tiny_artifact(folder), folder / "model", seen=seen_of(companies))
    return {"model": made, "equal": equal(made, folder / "equal")}


def copy_extract(
    extract: Path, out: Path, template: str = TEMPLATE, record: Mapping[str, Any] = MappingProxyType({}), **changes: Any
) -> Path:
    """Copy an extract with rows changed by a function of the row for each column."""
    rows = pq.read_table(extract / DATA).to_pylist()
    out.mkdir()
    found = read_extract_record(extract) | {"template": template, "fingerprint": f"of {out.name}", **record}
    (out / RECORD).write_text(json.dumps(found), encoding="utf-8")
    write_rows(out, [row | {key: change(row) for key, change in changes.items()} for row in rows])
    return out


def rows_of(
    challenger: Path, champion: Path | None, extract: Path, **settings: Any
) -> tuple[dict[str, Examples], dict[str, int]]:
    """The rows of each model, and the numbers of rows that are left out."""
    models = {"challenger": challenger} | ({"champion": champion} if champion else {})
    loaded = {role: load_artifact(folder) for role, folder in models.items()}
    _, rows, left_out = read_evaluation_rows(EvaluateConfig(extract=str(extract), **settings), loaded)
    return rows, left_out


class TestRows:
    def test_are_those_that_no_model_has_learned(self, models, companies) -> None:
        rows, left_out = rows_of(models["model"], models["equal"], companies)
        assert [len(those) for those in rows.values()] == [N_DEV, N_DEV]
        assert rows["champion"].texts == rows["challenger"].texts
        assert set(left_out.values()) == {0}
        assert len(rows_of(models["model"], None, companies, split="test")[0]["challenger"]) == N_DEV

    def test_refuse_a_split_that_was_learned(self, models, companies, tmp_path) -> None:
        on_dev = variant(models["model"], tmp_path / "on-dev", seen=seen_of(companies, "dev"))
        with pytest.raises(SourceError, match="30 learned by challenger, 0 learned by champion"):
            rows_of(on_dev, models["model"], companies)
        with pytest.raises(SourceError, match="0 learned by challenger, 30 learned by champion"):
            rows_of(models["model"], on_dev, companies)

    def test_leave_out_a_company_that_moved_to_dev(self, models, companies, tmp_path) -> None:
        """Its text changed, and so did its hash."""
        key = next(row["key"] for row in pq.read_table(companies / DATA).to_pylist() if row["split"] == "train")
        later = copy_extract(
            companies,
            tmp_path / "later",
            split=lambda row: "dev" if row["key"] == key else row["split"],
            text=lambda row: "Name: x. changed" if row["key"] == key else row["text"],
        )
        rows, left_out = rows_of(models["model"], models["equal"], later)
        assert (len(rows["challenger"]), key in rows["challenger"].keys) == (N_DEV, False)
        assert left_out["learned by challenger"] == left_out["learned by champion"] == 1

    def test_need_models_that_record_their_rows(self, models, companies, tmp_path) -> None:
        silent = variant(models["model"], tmp_path / "silent", seen=False)
        with pytest.raises(ConfigError, match="the challenger must record its training rows"):
            rows_of(silent, models["model"], companies)

    def test_that_fitted_the_challenger_are_left_out(self, models, companies, tmp_path) -> None:
        of_dev = {f"fitted.{name}": values for name, values in seen_of(companies, "dev").items()}
        seen = {**seen_by(load_artifact(models["model"])), **of_dev}
        fitted = variant(models["model"], tmp_path / "fitted", seen=seen)
        with pytest.raises(SourceError, match="30 learned by challenger"):
            rows_of(fitted, models["equal"], companies)
        assert len(rows_of(fitted, models["equal"], companies, split="test")[0]["challenger"]) == N_DEV
        assert len(rows_of(models["equal"], fitted, companies)[0]["challenger"]) == N_DEV

    def test_are_matched_by_key_over_two_templates(self, models, companies, tmp_path) -> None:
        template = "About: {about}"
        other = copy_extract(companies, tmp_path / "other", template, text=lambda row: f"About {row['key']}")
        write_rows(other, [row for row in pq.read_table(other / DATA).to_pylist() if row["key"] != "c0010"])
        champion = variant(models["model"], tmp_path / "champion", template=template)
        with pytest.raises(ConfigError, match=r"champion_extract must be made with the champion's template 'About: "):
            rows_of(models["model"], champion, companies)
        rows, left_out = rows_of(models["model"], champion, companies, champion_extract=str(other))
        assert rows["champion"].keys == rows["challenger"].keys
        assert rows["champion"].texts == [f"About {key}" for key in rows["challenger"].keys]
        assert (len(rows["challenger"]), left_out["in one extract only"]) == (N_DEV - 1, 1)

    def test_of_two_tables_are_refused(self, models, companies, tmp_path) -> None:
        copy_extract(companies, tmp_path / "other", record={"source_id": "elsewhere", "name": "another"})
        with pytest.raises(ConfigError, match=r"both extracts must be of one table, .* are not"):
            rows_of(models["model"], models["equal"], companies, champion_extract=str(tmp_path / "other"))


class TestEvaluate:
    def test_equal_models_differ_in_nothing(self, models, companies, tmp_path) -> None:
        made = load_artifact(models["model"])
        renamed = [made.manifest.labels[0].model_copy(update={"name": "new"}), *made.manifest.labels[1:]]
        challenger = load_artifact(variant(models["equal"], tmp_path / "renamed", labels=renamed))
        found = evaluate(EvaluateConfig(extract=str(companies)), challenger, made)
        assert found.labels == list(LABELS[1:])
        assert (found.only_champion, found.only_challenger, found.unjudged) == ([LABELS[0]], ["new"], [])
        assert found.champion == found.challenger
        assert {(one.difference, one.low, one.high) for one in found.differences} == {(0.0, 0.0, 0.0)}

    def test_measures_alone_without_a_champion(self, models, companies) -> None:
        found = evaluate(EvaluateConfig(extract=str(companies)), load_artifact(models["model"]), None)
        assert (found.labels, found.champion, found.differences) == (list(LABELS), {}, [])


class TestDifferences:
    @pytest.fixture
    def scored(self) -> tuple[ScoredRows, ScoredRows, np.ndarray]:
        """Two made-up models and the truth; one label is in no row."""
        random = np.random.default_rng(0)
        targets = random.random((80, 4)) < [0.5, 0.3, 0.1, 0.0]

        def model(noise: float) -> ScoredRows:
            logits = random.normal(targets * 2.0 - 1, noise)
            return ScoredRows(logits, logits >= 0, {})

        return model(2.0), model(0.8), targets

    def test_are_those_of_the_figures_with_an_interval_around(self, scored) -> None:
        champion, challenger, targets = scored
        found = differences(champion, challenger, targets, ["a", "b", "c", "never"])
        for metric, measure in (("map", mean_average_precision), ("macro_f1", macro_f1)):
            old, new = (side.logits if metric == "map" else side.decided for side in (champion, challenger))
            [overall] = [one for one in found if one.figure == metric]
            assert overall.difference == pytest.approx(measure(new, targets) - measure(old, targets), abs=2e-6)
            assert 0 < overall.low < overall.difference < overall.high
        labels = [one for one in found if one.figure == "ap"]
        assert [one.positives for one in labels] == targets.sum(axis=0).tolist()
        assert labels[3].difference is labels[3].low is None
