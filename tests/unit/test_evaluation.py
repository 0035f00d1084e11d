"""Which rows judge, and what two models' figures on them are."""

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
from training.calibrate.calibrate import Calibration
from training.data.folder import DATA, RECORD, read_extract_record
from training.data.provenance import seen_by
from training.evaluate.config import EvaluateConfig
from training.evaluate.evaluate import evaluate
from training.evaluate.held_out import judging_rows, sides
from training.evaluate.measure import Said, differences
from training.evaluate.metrics import macro_f1, mean_average_precision

SOURCE = "made-up"
N_DEV = 30


@pytest.fixture(scope="module")
def models(companies: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models that say what they have learned from: the extract's train rows."""
    folder = tmp_path_factory.mktemp("models")
    seen = seen_of(companies)
    made = variant(tiny_artifact(folder), folder / "model", seen=seen)
    return {"model": made, "equal": equal(made, folder / "equal")}


def copied(
    extract: Path,
    out: Path,
    template: str = TEMPLATE,
    of_record: Mapping[str, Any] = MappingProxyType({}),
    **changes: Any,
) -> Path:
    """Copy an extract with rows changed: a value, or a function of the row, for each column."""
    rows = pq.read_table(extract / DATA).to_pylist()
    out.mkdir()
    made = [
        row | {name: change(row) if callable(change) else change for name, change in changes.items()} for row in rows
    ]
    record = read_extract_record(extract) | {"template": template, "fingerprint": f"of {out.name}", **of_record}
    (out / RECORD).write_text(json.dumps(record), encoding="utf-8")
    write_rows(out, made)
    return out


def judging(challenger: Path, champion: Path | None, extract: Path, **settings: Any):
    config = EvaluateConfig(extract=str(extract), **settings)
    made = [path and load_artifact(path) for path in (challenger, champion)]
    return judging_rows(sides(config, *made), config.split, config.max_learned)


def test_rows_that_neither_model_has_learned_from_judge(models, companies):
    found = judging(models["model"], models["equal"], companies)
    assert (len(found.rows), found.held_out) == (N_DEV, True)
    assert found.champion_texts == found.rows.texts
    assert set(found.left_out.values()) == {0}
    assert len(judging(models["model"], None, companies, split="test").rows) == N_DEV


def test_rows_that_a_model_has_learned_from_are_refused_with_counts(models, companies, tmp_path):
    on_dev = variant(models["model"], tmp_path / "on-dev", seen=seen_of(companies, "dev"))
    with pytest.raises(
        SourceError, match="of 30 rows of 'dev' 30 were learned by challenger, 0 were learned by champion"
    ):
        judging(on_dev, models["model"], companies)
    with pytest.raises(SourceError, match="0 were learned by challenger, 30 were learned by champion"):
        judging(models["model"], on_dev, companies)


@pytest.mark.parametrize("max_learned", [0.0, 0.04])
def test_few_rows_that_were_learned_from_are_left_out(models, companies, tmp_path, max_learned):
    """A company of train whose text changed, so that a hash of it put it into dev."""
    key = next(row["key"] for row in pq.read_table(companies / DATA).to_pylist() if row["split"] == "train")
    later = copied(
        companies,
        tmp_path / "later",
        split=lambda row: "dev" if row["key"] == key else row["split"],
        text=lambda row: "Name: x. changed" if row["key"] == key else row["text"],
    )
    if max_learned == 0:
        with pytest.raises(
            SourceError, match="of 31 rows of 'dev' 1 were learned by challenger, 1 were learned by champion"
        ):
            judging(models["model"], models["equal"], later, max_learned=max_learned)
        return
    found = judging(models["model"], models["equal"], later, max_learned=max_learned)
    assert len(found.rows) == N_DEV
    assert key not in found.rows.keys
    assert found.left_out["learned by challenger"] == found.left_out["learned by champion"] == 1


def test_a_model_that_does_not_say_has_not_learned_from_its_own_extract_s_dev(models, companies, tmp_path, capsys):
    silent = variant(models["model"], tmp_path / "silent", seen=False)
    assert not judging(silent, models["model"], companies).held_out
    assert "whether the challenger has learned from rows that judge cannot be known" in capsys.readouterr().err
    origin = ExtractOrigin(
        fingerprint=read_extract_record(companies)["fingerprint"], source="x", source_id=SOURCE, version=1
    )
    own = variant(silent, tmp_path / "own", extract=origin)
    assert judging(own, models["model"], companies).held_out
    assert capsys.readouterr().err == ""


def test_a_challenger_whose_thresholds_were_fitted_to_the_split_is_no_stranger_to_it(
    models, companies, tmp_path, capsys
):
    fitted = variant(models["model"], tmp_path / "fitted", metrics={"fitted_splits": ["dev"]})
    assert not judging(fitted, models["equal"], companies).held_out
    assert "the challenger's thresholds were fitted to 30 of 30 rows of dev" in capsys.readouterr().err
    assert judging(fitted, models["equal"], companies, split="test").held_out
    assert judging(models["equal"], fitted, companies).held_out
    assert "the champion's thresholds were fitted to 30 of 30 rows of dev" in capsys.readouterr().err


def test_rows_that_thresholds_were_fitted_to_are_known_in_another_split_of_a_later_extract(
    models, companies, tmp_path, capsys
):
    of_dev = {f"fitted.{name}": values for name, values in seen_of(companies, "dev").items()}
    seen = {**seen_by(load_artifact(models["model"])), **of_dev}
    fitted = variant(models["model"], tmp_path / "fitted", seen=seen, metrics={"fitted_splits": ["dev"]})
    swapped = {"dev": "test", "test": "dev", "train": "train"}
    later = copied(companies, tmp_path / "later", split=lambda row: swapped[row["split"]])
    assert not judging(fitted, models["equal"], later, split="test").held_out
    assert "the challenger's thresholds were fitted to 30 of 30 rows of test" in capsys.readouterr().err
    assert judging(fitted, models["equal"], later, split="dev").held_out


def test_models_of_two_templates_read_their_own_texts_of_the_same_companies(models, companies, tmp_path):
    template = "About: {about}"
    other = copied(companies, tmp_path / "other", template, text=lambda row: f"About {row['key']}")
    write_rows(other, [row for row in pq.read_table(other / DATA).to_pylist() if row["key"] != "c0010"])
    champion = variant(models["model"], tmp_path / "champion", template=template)
    with pytest.raises(ConfigError, match=r"champion_extract must be made with the champion's template 'About: "):
        judging(models["model"], champion, companies)
    found = judging(models["model"], champion, companies, champion_extract=str(other))
    assert found.champion_texts == [f"About {key}" for key in found.rows.keys]
    assert len(found.rows) == N_DEV - 1
    assert found.left_out["in one extract only"] == 1
    nobody = copied(companies, tmp_path / "nobody", template, key=lambda row: f"other {row['key']}")
    with pytest.raises(SourceError, match="must stand in both extracts, none does"):
        judging(models["model"], champion, companies, champion_extract=str(nobody))


def test_rows_of_another_table_do_not_judge(models, companies, tmp_path, capsys):
    other = {"source_id": "elsewhere", "name": "another"}
    later = {"version": 9, "source_id": "of a table that took its place"}
    for name, of_record in {"other": other, "later": later}.items():
        copied(companies, tmp_path / name, of_record=of_record)
    with pytest.raises(ConfigError, match=r"both extracts must be of one table, .* are not"):
        judging(models["model"], models["equal"], companies, champion_extract=str(tmp_path / "other"))
    judging(models["model"], models["equal"], companies, champion_extract=str(tmp_path / "later"))
    told = capsys.readouterr().err
    assert "the extracts are of two versions of the table, [3, 9]" in told
    assert "the extracts are of two tables that were called 'crm.companies'" in told


def test_equal_models_differ_in_nothing_and_labels_of_one_model_do_not_judge(models, companies, tmp_path):
    made = load_artifact(models["model"])
    renamed = [made.manifest.labels[0].model_copy(update={"name": "new"}), *made.manifest.labels[1:]]
    challenger = load_artifact(variant(models["equal"], tmp_path / "renamed", labels=renamed))
    found = evaluate(EvaluateConfig(extract=str(companies), resamples=100), challenger, made)
    assert found.labels == list(LABELS[1:])
    assert (found.only_champion, found.only_challenger, found.unjudged) == ([LABELS[0]], ["new"], [])
    assert found.champion == found.challenger
    assert {(one.difference, one.low, one.high) for one in found.differences} == {(0.0, 0.0, 0.0)}
    alone = evaluate(EvaluateConfig(extract=str(companies)), made, None)
    assert (alone.labels, alone.champion, alone.differences) == (list(LABELS), {}, [])


@pytest.fixture
def said() -> tuple[Said, Said, np.ndarray]:
    """Two made-up models and the truth; a label occurs in no row."""
    random = np.random.default_rng(0)
    targets = (random.random((80, 4)) < [0.5, 0.3, 0.1, 0.0]).astype(np.float32)
    calibration = Calibration(np.ones(4), np.zeros(4))

    def model(noise: float) -> Said:
        logits = random.normal(targets * 2 - 1, noise)
        return Said(logits, logits >= 0, calibration, np.full(4, 0.5))

    return model(2.0), model(0.8), targets


def test_intervals_are_those_of_the_paired_bootstrap(said):
    champion, challenger, targets = said
    names = ["a", "b", "c", "never"]
    found = differences(champion, challenger, targets, names, resamples=200, confidence=0.95)
    for metric, measure in (("map", mean_average_precision), ("macro_f1", macro_f1)):
        now, was = challenger.values(metric), champion.values(metric)
        random = np.random.default_rng(0)
        samples = [random.integers(0, len(targets), len(targets)) for _ in range(200)]
        expected = [measure(now[rows], targets[rows]) - measure(was[rows], targets[rows]) for rows in samples]
        [overall] = [one for one in found if one.figure == metric]
        bias = np.mean(expected) - (measure(now, targets) - measure(was, targets))
        ends = np.quantile(expected, [0.025, 0.975]) - bias
        assert (overall.low, overall.high) == pytest.approx(tuple(ends), abs=2e-6)
        assert overall.difference == pytest.approx(measure(now, targets) - measure(was, targets), abs=2e-6)
        assert overall.challenger == pytest.approx(measure(challenger.values(metric), targets), abs=1e-6)
    labels = [one for one in found if one.figure == "ap"]
    assert [(one.label, one.positives) for one in labels] == list(zip(names, targets.sum(axis=0), strict=True))
    assert labels[3].difference is labels[3].low is None
    gains = [one.difference for one in labels[:3]]
    assert np.mean(gains) == pytest.approx(next(one for one in found if one.figure == "map").difference, abs=2e-6)


def test_less_confidence_gives_narrower_intervals(said):
    champion, challenger, targets = said
    wide, narrow = (
        differences(champion, challenger, targets, list("abcd"), resamples=200, confidence=confidence)[0]
        for confidence in (0.95, 0.5)
    )
    assert wide.low < narrow.low < narrow.difference < narrow.high < wide.high
