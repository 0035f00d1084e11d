"""Texts are dealt to slices and tasks of equal work, whatever their lengths."""

from __future__ import annotations

import hashlib
import random
import threading
import time

import numpy as np
import pytest
from pyspark.sql import functions as F

from ptec_udf.engine.udf import BYTES_PER_TOKEN, Counters, cost_of
from ptec_udf.nightly.stage import _in_turn, _line, off_its_tables
from ptec_udf.nightly.tasks import cost, deal
from tests.spark.nights import Site, companies

MOST_TOKENS = 100
MOST_COST = (MOST_TOKENS + 1) * BYTES_PER_TOKEN


@pytest.fixture
def texts(spark):
    draw = random.Random(0)
    made = ["x" * int(draw.lognormvariate(4, 1)) + str(at) for at in range(3000)] + ["y" * 1_000_000, "z"]
    return spark.createDataFrame(
        [(hashlib.sha256(text.encode()).hexdigest(), text) for text in made], "text_hash string, text string"
    )


def dealt(texts, n_slices=2, n_slots=2):
    made = deal(texts, n_slices=n_slices, n_slots=n_slots, most_tokens=MOST_TOKENS)
    return made.selectExpr("slice", "task", "n_tasks", "cost", "octet_length(text) AS bytes", "text_hash").collect()


def test_tasks_of_a_slice_have_equal_work_and_texts_of_like_length(texts):
    rows = dealt(texts)
    assert len({row["text_hash"] for row in rows}) == len(rows) == 3002
    for at in (0, 1):
        of_slice = [row for row in rows if row["slice"] == at]
        tasks = {}
        for row in of_slice:
            tasks.setdefault(row["task"], []).append(row["cost"])
        assert 1400 < len(of_slice) < 1600
        assert sorted(tasks) == list(range(of_slice[0]["n_tasks"])) == [0, 1, 2, 3]
        mean = sum(map(sum, tasks.values())) / len(tasks)
        assert all(abs(sum(costs) - mean) <= MOST_COST for costs in tasks.values())
        assert all(min(tasks[task]) >= max(tasks[task + 1]) for task in range(3))
    giant = next(row for row in rows if row["bytes"] == 1_000_000)
    assert giant["cost"] == MOST_COST  # what is cut off is no work


def test_many_texts_make_many_tasks(texts):
    assert {row["n_tasks"] for row in dealt(texts, n_slices=1, n_slots=1)} == {6}
    assert {row["n_tasks"] for row in dealt(texts, n_slices=1, n_slots=50)} == {100}


def test_what_is_dealt_is_kept_when_staging_is_written(texts, warehouse):
    staged = texts.limit(5).selectExpr("text_hash", "'m' AS model_id")
    warehouse.append("score_staging", staged)
    known = warehouse.read("score_staging").select("text_hash")
    computed = warehouse.spark.sparkContext.accumulator(0)

    @F.udf("string")
    def counted(text):
        computed.add(1)
        return text

    fresh = texts.join(known, on="text_hash", how="left_anti")
    made = off_its_tables(fresh.select("text_hash", counted("text").alias("text"))).persist()
    assert made.schema == fresh.schema
    assert made.count() == computed.value == 2997
    warehouse.append("score_staging", staged)
    assert sorted(made.collect()) == sorted(fresh.collect())
    assert computed.value == 2997
    made.unpersist(blocking=True)
    assert made.count() == 2997  # as where an executor is lost
    assert computed.value == 2 * 2997


def test_dealing_does_not_depend_on_the_order_of_rows(texts):
    assert sorted(dealt(texts)) == sorted(dealt(texts.repartition(7).orderBy("text_hash")))


def test_after_a_failure_what_has_begun_is_ended_and_no_other_slice_is_begun():
    begun, ended, failed = [], [], threading.Event()

    def write(one):
        begun.append(one)
        if one == 1:
            failed.set()
            raise ValueError(one)
        assert failed.wait(60)
        time.sleep(0.2)  # so that the other thread could begin the next one
        ended.append(one)

    with pytest.raises(ValueError, match="1"):
        _in_turn(write, list(range(6)))
    assert (sorted(begun), ended) == ([0, 1], [0])


@pytest.mark.parametrize("most_tokens", [None, 3])
def test_work_of_a_text_is_the_same_in_spark_and_in_python(spark, most_tokens):
    texts = ["", "ab", "a longer text of some words", "\u5728\u7ebf\u652f\u4ed8 \U0001f680"]
    frame = spark.createDataFrame([(text,) for text in texts], "text string")
    found = [row[0] for row in frame.select(cost(most_tokens)).collect()]
    assert found == [cost_of(text, most_tokens) for text in texts]


@pytest.fixture
def site(warehouse, tmp_path):
    made = Site(warehouse, tmp_path)
    made.write(companies())
    made.champion()
    return made


def logits(site):
    return np.array([row["logits"] for _, row in sorted(site.scores().items())])


def test_run_counts_what_it_does(site, monkeypatch):
    made, of = [], Counters.of
    monkeypatch.setattr(Counters, "of", lambda *arguments: made.append(of(*arguments)) or made[-1])
    result = site.night()
    counters = made[0]
    assert (counters.texts.value, counters.tokens.value) == (60, result["tokens"])
    assert 0 < result["padding"] < 0.5
    site.spark.sql(f"DELETE FROM {site.warehouse.name('scores')}")
    assert site.night("engine.batch_tokens=1", "run.retry_errors=true")["padding"] == 0  # each text is a batch
    share, line = _line(counters, 60, counters.cost.value, 10.0, {})
    rates = f"6.0 texts/s, {result['tokens'] / 10:.0f} tokens/s"
    assert (share, line) == (1.0, f"texts scored: 60 of 60 (100% of the work), {rates}, about 0 s left")
    assert _line(counters, 60, counters.cost.value, 10.0, {2: (0, 4), 1: (3, 8)}) == (
        1.0,
        f"{line}; slice 1: 3 of 8 tasks; slice 2: 0 of 4 tasks",
    )


@pytest.mark.long
def test_run_computes_in_the_arithmetic_that_it_names(site, monkeypatch):
    monkeypatch.setattr("ptec_udf.engine.device.has_bfloat16", lambda _: True)
    named, found = [], []
    for dtype in ("auto", "bfloat16", "float32"):
        site.spark.sql(f"DELETE FROM {site.warehouse.name('scores')}")
        # A retry, since otherwise there is nothing to do.
        named.append(site.night(f"engine.dtype={dtype}", "run.retry_errors=true")["dtype"])
        found.append(logits(site))
    assert named == ["bfloat16", "bfloat16", "float32"]
    assert np.array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-4
