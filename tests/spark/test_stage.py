"""Texts are dealt to slices and tasks of equal work, whatever their lengths."""

from __future__ import annotations

import hashlib
import random

import pytest

from ptec_udf.engine import udf
from ptec_udf.nightly.stage import _BYTES_OF_A_TOKEN, _in_turn, _line, deal
from tests.spark.nights import Site, companies

MOST_TOKENS = 100
MOST_COST = (MOST_TOKENS + 1) * _BYTES_OF_A_TOKEN


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


def test_dealing_does_not_depend_on_the_order_of_rows(texts):
    assert sorted(dealt(texts)) == sorted(dealt(texts.repartition(7).orderBy("text_hash")))


def test_after_a_failure_no_other_slice_is_begun():
    begun = []

    def write(one):
        begun.append(one)
        raise ValueError(one)

    with pytest.raises(ValueError, match="0"):
        _in_turn(write, list(range(1000)))
    assert len(begun) < 1000


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_run_names_its_arithmetic_and_counts_what_it_does(warehouse, tmp_path, monkeypatch, dtype):
    lines, site = [], Site(warehouse, tmp_path)
    counters = []
    of = udf.Counters.of
    monkeypatch.setattr(
        "ptec_udf.nightly.stage.Counters.of", lambda context: counters.append(of(context)) or counters[0]
    )
    site.write(companies())
    site.champion()
    result = site.night(f"engine.dtype={dtype}")
    assert (result["dtype"], result["outcome"]) == (dtype, "done")
    assert warehouse.read("runs").first()["dtype"] == dtype
    assert counters[0].texts.value == 60
    assert counters[0].tokens.value == result["tokens"]
    lines.append(_line(counters[0], 60, counters[0].n_bytes.value, 10.0))
    assert lines == [
        (1.0, f"texts scored: 60 of 60 (100%), 6.0 texts/s, {result['tokens'] / 10:.0f} tokens/s, about 0 s left")
    ]


def test_arithmetic_of_auto_is_decided_by_the_driver(warehouse, tmp_path, monkeypatch):
    site = Site(warehouse, tmp_path)
    site.write(companies())
    site.champion()
    monkeypatch.setattr("ptec_udf.engine.device.has_bfloat16", lambda _: True)
    assert site.night("engine.dtype=auto")["dtype"] == "bfloat16"
