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

from ptec_udf.errors import ConfigError, SourceError
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.manifest import ExtractOrigin
from tests.tiny import LABELS, TEMPLATE, tiny_artifact, write_rows
from tests.variants import equal, seen_of, variant
from training.data.folder import DATA, RECORD, read_extract_record
from training.data.provenance import seen_by
from training.evaluate.compare import ScoredRows, differences, evaluate
from training.evaluate.config import EvaluateConfig
from training.evaluate.metrics import macro_f1, mean_average_precision
from training.evaluate.rows import EvaluationRows, find_candidates, read_evaluation_rows

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


def rows_of(challenger: Path, champion: Path | None, extract: Path, **settings: Any) -> EvaluationRows:
    config = EvaluateConfig(extract=str(extract), **settings)
    made = [path and load_artifact(path) for path in (challenger, champion)]
    return read_evaluation_rows(find_candidates(config, *made), config.split, config.max_learned)


class TestRows:
    def test_are_those_that_no_model_has_learned(self, models, companies) -> None:
        found = rows_of(models["model"], models["equal"], companies)
        assert (len(found.rows), found.held_out) == (N_DEV, True)
        assert found.champion_texts == found.rows.texts
        assert set(found.left_out.values()) == {0}
        assert len(rows_of(models["model"], None, companies, split="test").rows) == N_DEV

    def test_refuse_a_split_that_was_learned(self, models, companies, tmp_path) -> None:
        on_dev = variant(models["model"], tmp_path / "on-dev", seen=seen_of(companies, "dev"))
        with pytest.raises(SourceError, match=r"of 30 were: 30 learned by challenger, 0 learned by champion"):
            rows_of(on_dev, models["model"], companies)
        with pytest.raises(SourceError, match=r"0 learned by challenger, 30 learned by champion"):
            rows_of(models["model"], on_dev, companies)

    def test_leave_out_a_few_that_were_learned(self, models, companies, tmp_path) -> None:
        """A company of train whose text changed, so that its hash put it into dev."""
        key = next(row["key"] for row in pq.read_table(companies / DATA).to_pylist() if row["split"] == "train")
        later = copy_extract(
            companies,
            tmp_path / "later",
            split=lambda row: "dev" if row["key"] == key else row["split"],
            text=lambda row: "Name: x. changed" if row["key"] == key else row["text"],
        )
        found = rows_of(models["model"], models["equal"], later)
        assert (len(found.rows), key in found.rows.keys) == (N_DEV, False)
        with pytest.raises(SourceError, match="at most 0% of the rows"):
            rows_of(models["model"], models["equal"], later, max_learned=0.0)

    def test_of_a_model_without_record_are_held_out_in_its_own_extract(self, models, companies, tmp_path) -> None:
        silent = variant(models["model"], tmp_path / "silent", seen=False)
        assert not rows_of(silent, models["model"], companies).held_out
        fingerprint = read_extract_record(companies)["fingerprint"]
        origin = ExtractOrigin(fingerprint=fingerprint, source="x", source_id="y", version=1)
        assert rows_of(variant(silent, tmp_path / "own", extract=origin), models["model"], companies).held_out

    def test_that_fitted_the_challenger_are_not_held_out(self, models, companies, tmp_path) -> None:
        of_dev = {f"fitted.{name}": values for name, values in seen_of(companies, "dev").items()}
        seen = {**seen_by(load_artifact(models["model"])), **of_dev}
        fitted = variant(models["model"], tmp_path / "fitted", seen=seen)
        assert not rows_of(fitted, models["equal"], companies).held_out
        assert rows_of(fitted, models["equal"], companies, split="test").held_out
        assert rows_of(models["equal"], fitted, companies).held_out

    def test_are_matched_by_key_over_two_templates(self, models, companies, tmp_path) -> None:
        template = "About: {about}"
        other = copy_extract(companies, tmp_path / "other", template, text=lambda row: f"About {row['key']}")
        write_rows(other, [row for row in pq.read_table(other / DATA).to_pylist() if row["key"] != "c0010"])
        champion = variant(models["model"], tmp_path / "champion", template=template)
        with pytest.raises(ConfigError, match=r"champion_extract must be made with the champion's template 'About: "):
            rows_of(models["model"], champion, companies)
        found = rows_of(models["model"], champion, companies, champion_extract=str(other))
        assert found.champion_texts == [f"About {key}" for key in found.rows.keys]
        assert (len(found.rows), found.left_out["in one extract only"]) == (N_DEV - 1, 1)

    def test_of_two_tables_are_refused(self, models, companies, tmp_path) -> None:
        copy_extract(companies, tmp_path / "other", record={"source_id": "elsewhere", "name": "another"})
        with pytest.raises(ConfigError, match=r"both extracts must be of one table, .* are not"):
            rows_of(models["model"], models["equal"], companies, champion_extract=str(tmp_path / "other"))


class TestEvaluate:
    def test_equal_models_differ_in_nothing(self, models, companies, tmp_path) -> None:
        made = load_artifact(models["model"])
        renamed = [made.manifest.labels[0].model_copy(update={"name": "new"}), *made.manifest.labels[1:]]
        challenger = load_artifact(variant(models["equal"], tmp_path / "renamed", labels=renamed))
        found = evaluate(EvaluateConfig(extract=str(companies), resamples=100), challenger, made)
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
        found = differences(champion, challenger, targets, ["a", "b", "c", "never"], resamples=200, confidence=0.95)
        for metric, measure in (("map", mean_average_precision), ("macro_f1", macro_f1)):
            old, new = (side.logits if metric == "map" else side.decided for side in (champion, challenger))
            [overall] = [one for one in found if one.figure == metric]
            assert overall.difference == pytest.approx(measure(new, targets) - measure(old, targets), abs=2e-6)
            assert 0 < overall.low < overall.difference < overall.high
        labels = [one for one in found if one.figure == "ap"]
        assert [one.positives for one in labels] == targets.sum(axis=0).tolist()
        assert labels[3].difference is labels[3].low is None

    def test_less_confidence_is_narrower(self, scored) -> None:
        wide, narrow = (differences(*scored, list("abcd"), 200, confidence)[0] for confidence in (0.95, 0.5))
        assert wide.low < narrow.low < narrow.difference < narrow.high < wide.high
