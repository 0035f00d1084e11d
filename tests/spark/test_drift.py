"""Drift of nights: what is measured is what stands, quiet nights are quiet, and a shift signals within two nights."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ptec_udf.monitor.distribution import count_probabilities, probability_counts
from ptec_udf.monitor.language import language
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.support import Site
from tests.spark.test_commands import run
from tests.tiny import LABELS

N_FIRST, N_NIGHTLY = 300, 120
GERMAN = "wir sind ein unternehmen für software und daten, das mit der industrie und von der stadt aus arbeitet"
ENGLISH = "we are a company for software and data that works with industry and from the city in this country"


@pytest.fixture
def site(warehouse: Warehouse, tmp_path: Path) -> Site:
    made = Site(warehouse, tmp_path, ["drift.measure=true"])
    made.champion()
    return made


class Growing:
    """A source that gets new companies each night."""

    def __init__(self, site: Site) -> None:
        self.site, self.rows, self.draw = site, [], random.Random(5)

    def night(self, n_new: int, **how: Any) -> dict[str, Any]:
        self.rows += [self.company(len(self.rows) + at, **how) for at in range(n_new)]
        self.site.write(self.rows)
        return self.site.night()

    def company(self, at: int, words: str = ENGLISH, shorter: int = 1) -> tuple[str, str, str]:
        n_words = self.draw.randint(20, 40) // shorter
        text = " ".join(self.draw.choices(words.split(), k=n_words))
        return f"k{at}", f"company {at}", text


def drift_of(site: Site, run_id: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    rows = site.warehouse.read("drift").where(F.col("run_id") == run_id).collect()
    return {(row["population"], row["figure"], row["label"]): row.asDict() for row in rows}


def test_newcomers_are_fresh_beside_companies_that_are_tried_again(site: Site) -> None:
    growing = Growing(site)
    growing.night(N_FIRST)
    site.spark.sql(
        f"UPDATE {site.warehouse.name('scores')} SET status = 'error', logits = NULL, probabilities = NULL, "
        "labels = CAST(array() AS array<string>) WHERE key = 'k0'"
    )
    site.write([*growing.rows, *(growing.company(N_FIRST + at) for at in range(30))])
    night = site.night("run.retry_errors=true")
    assert night["counts"] == {"truncated": 31}
    assert drift_of(site, night["run_id"])["fresh", "status", None]["companies"] == 30


def test_newcomers_are_fresh_beside_companies_whose_correction_was_deleted(site: Site) -> None:
    growing = Growing(site)
    growing.night(N_FIRST)
    site.correct(*[(f"k{at}", LABELS[0], at % 2 == 0) for at in range(40)])
    site.night()
    site.spark.sql(f"DELETE FROM {site.warehouse.name('corrections')}")
    night = growing.night(30)
    assert night["counts"] == {"truncated": 70}
    assert drift_of(site, night["run_id"])["fresh", "status", None]["companies"] == 30


def test_what_is_measured_is_what_stands(site: Site) -> None:
    growing = Growing(site)
    first = growing.night(N_FIRST)
    found = drift_of(site, first["run_id"])
    scores = site.warehouse.read("scores").collect()
    assert {key[0] for key in found} == {"all"}  # all are fresh
    assert {key[2] for key in found if key[1] == "probability"} == set(LABELS)
    values = np.array([row["probabilities"] for row in scores], np.float32)
    for at, label in enumerate(LABELS):
        row = found["all", "probability", label]
        assert row["counts"] == probability_counts(count_probabilities(values)[at])
        assert row["mean"] == pytest.approx(values[:, at].mean())
        assert row["share"] == pytest.approx(np.mean([label in one["labels"] for one in scores]))
        assert (row["psi_nights"], row["violated"], row["companies"]) == (None, [], N_FIRST)
    assert found["all", "labels", None]["mean"] == pytest.approx(np.mean([len(row["labels"]) for row in scores]))
    tokens = [row["n_tokens"] + row["n_truncated"] for row in scores]
    assert found["all", "tokens", None]["mean"] == pytest.approx(np.mean(tokens))
    assert found["all", "language", None]["counts"] == Counter(row["language"] for row in scores)
    assert found["all", "status", None]["counts"] == Counter(row["status"] for row in scores)
    assert (first["drifted"], first["retrain"]) == ([], False)


@pytest.mark.long
@pytest.mark.parametrize(
    ("shift", "figure"),
    [pytest.param({"words": GERMAN}, "language", id="german"), pytest.param({"shorter": 2}, "tokens", id="halved")],
)
def test_a_shift_signals_within_two_nights_and_quiet_ones_before_it_do_not(
    site: Site, shift: dict[str, Any], figure: str
) -> None:
    growing = Growing(site)
    quiet = [growing.night(n) for n in (N_FIRST, N_NIGHTLY, N_NIGHTLY)]
    assert [(night["drifted"], night["retrain"]) for night in quiet] == [([], False)] * 3
    assert ("fresh", figure, None) in drift_of(site, quiet[-1]["run_id"])
    shifted = [growing.night(N_NIGHTLY, **shift) for _ in range(2)]
    assert [night["retrain"] for night in shifted] == [False, True]
    assert all(any(line.startswith(f"fresh {figure}: PSI ") for line in night["drifted"]) for night in shifted)
    runs = {row["run_id"]: row for row in site.warehouse.read("runs").collect()}
    assert runs[shifted[-1]["run_id"]]["drifted"] == shifted[-1]["drifted"]
    assert site.night()["outcome"] == "nothing_to_do"
    assert site.warehouse.read("drift").select("run_id").distinct().count() == 5


def test_corrections_are_held_against_probabilities_and_are_not_fresh(site: Site) -> None:
    growing = Growing(site)
    growing.night(N_FIRST)
    before = site.scores()
    rows = [(f"k{at}", LABELS[0], at % 4 == 0) for at in range(40)]
    frame = site.spark.createDataFrame(rows, "key string, label string, is_true boolean")
    site.warehouse.append("corrections", frame.withColumn("at", F.current_timestamp()))
    site.spark.sql(f"UPDATE {site.warehouse.name('runs')} SET drifted = array('a figure')")
    night = site.night()
    assert night["retrain"] is False  # a version of the source is one night, however often it is scored
    found = drift_of(site, night["run_id"])
    assert {key[0] for key in found} == {"all"}
    scores = site.scores()
    expected = sum(scores[key]["probabilities"][0] for key, _, _ in rows)
    row = found["all", "probability", LABELS[0]]
    assert (row["corrected"], row["corrected_true"]) == (40, 10)
    assert row["corrected_expected"] == pytest.approx(expected)
    assert found["all", "probability", LABELS[1]]["corrected"] is None

    said = {key: is_true for key, _, is_true in rows}
    assert {key: LABELS[0] in scores[key]["labels"] for key in said} == said
    changes = site.warehouse.read("score_changes").where(F.col("run_id") == night["run_id"]).collect()
    assert {(row["key"], row["label"], row["entered"], row["reason"]) for row in changes} == {
        (key, LABELS[0], is_true, "correction")
        for key, is_true in said.items()
        if is_true is not (LABELS[0] in before[key]["labels"])
    }
    shown = site.spark.table(site.warehouse.name("label_scores")).where(F.col("label") == LABELS[0]).collect()
    assert {row["key"]: row["has_label"] for row in shown if row["key"] in said} == said
    screen = site.spark.sql(f"SELECT key, corrected FROM {site.warehouse.name('screen')}('{LABELS[0]}', 1.0)")
    assert {row["key"]: row["corrected"] for row in screen.collect()} == {key: True for key in said if said[key]}


def test_the_signal_is_an_exit_code_and_a_field_and_another_models_nights_are_not_shown(site: Site) -> None:
    growing = Growing(site)
    growing.night(20)
    another = site.night(f"model.id={site.model(1)}")
    assert another["drifted"] == []
    done = run(site, "drift", "--json")
    assert (done.exit_code, json.loads(done.stdout)["retrain"]) == (0, False)
    assert [one["compared"] for one in json.loads(done.stdout)["runs"]] == [[]]  # 20 companies are too few
    assert "nothing: too few companies" in run(site, "drift").stdout
    (champion,) = site.warehouse.read("runs").where(F.col("alias") == "champion").collect()
    for at, outcome in enumerate(("done", "failed"), start=1):
        later = {name: champion[name] + timedelta(days=at) for name in ("started", "ended")}
        signal = {"run_id": f"signal-{at}", "outcome": outcome, "drifted": ["a figure"], "retrain": True}
        site.warehouse.append_rows("runs", [champion.asDict() | later | signal])
    done = run(site, "drift", "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["retrain"]) == (1, True)
    assert [one["run_id"] for one in found["runs"]] == ["signal-1", champion["run_id"]]
    for view in ("drift_summary", "label_drift"):
        rows = site.spark.table(site.warehouse.name(view)).select("run_id").distinct().collect()
        assert [row["run_id"] for row in rows] == [champion["run_id"]]


def test_a_text_that_is_not_there_has_no_length_and_no_language(site: Site) -> None:
    growing = Growing(site)
    growing.night(20)
    site.write([*growing.rows, *((f"none{at}", None, None) for at in range(5))])
    night = site.night()
    found = drift_of(site, night["run_id"])
    assert found["all", "status", None]["counts"] == {"empty": 5, "truncated": 20}
    assert (found["all", "tokens", None]["companies"], found["all", "language", None]["companies"]) == (20, 20)
    assert ("fresh", "tokens", None) not in found
    summary = site.spark.table(site.warehouse.name("drift_summary")).where(F.col("run_id") == night["run_id"]).collect()
    all_of_them, fresh = sorted(summary, key=lambda row: row["population"])
    assert (all_of_them["empty"], sum(all_of_them["languages"].values())) == (0.2, pytest.approx(1))
    assert (fresh["empty"], fresh["languages"], fresh["tokens_per_text"]) == (1.0, None, None)


def test_a_night_without_measuring_leaves_no_rows(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.overrides = ["drift.measure=false"]
    assert Growing(site).night(20)["drifted"] is None
    site.overrides = []  # nobody is left whose drift could be measured
    site.write([])
    assert (site.night("drift.measure=true")["counts"], site.rows("drift")) == ({"removed": 20}, [])
    assert "drift was not measured" not in capsys.readouterr().err
    assert {row["drifted"] for row in site.warehouse.read("runs").collect()} == {None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We build software for the energy industry and its suppliers.", "en"),
        ("Wir entwickeln Software für die Energiewirtschaft und ihre Zulieferer.", "de"),
        ("Nous développons des logiciels pour les entreprises de l'énergie et une banque.", "fr"),
        ("Desarrollamos programas para las empresas de energía y los bancos.", "es"),
        ("Sviluppiamo programmi per le aziende e una banca che sono gli esperti del settore.", "it"),
        ("Desenvolvemos programas para as empresas e os bancos com uma equipe.", "pt"),
        ("Wij maken software voor de industrie en het onderwijs van onze stad.", "nl"),
        ("エネルギー産業のためのソフトウェアを開発しています。", "ja"),
        ("为能源行业开发软件", "zh"),
        ("Разработка программ для энергетики", "ru"),
        ("ACME 3000", "other"),
        (None, None),
    ],
)
def test_language(spark: SparkSession, text: str | None, expected: str | None) -> None:
    frame = spark.createDataFrame([(text,)], "text string")
    assert frame.select(language(F.col("text"))).first()[0] == expected
