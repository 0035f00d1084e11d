"""Limits of drift, and the signal that some violated nights in a row of nights give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ptec_udf.config import ScoreConfig
from ptec_udf.config_file import load_config
from ptec_udf.errors import ConfigError
from ptec_udf.monitor.count import add_up, counting
from ptec_udf.monitor.drift_config import DriftConfig
from ptec_udf.monitor.judge import Distribution, Key, Reference, judge, reference_runs, retrain, sums_by_key

LANGUAGE = Key("all", "language")
OF_LABEL = Key("fresh", "probability", "bio\"tech'")


def test_a_shift_against_nights_violates_and_an_equal_mix_does_not() -> None:
    status = Key("all", "status")
    night = {LANGUAGE: Distribution(1000, {"de": 400, "en": 600}), status: Distribution(1000, {"ok": 1000})}
    nights = {LANGUAGE: Reference(7000, {"en": 7000}), status: Reference(7000, {"ok": 7000})}
    rows, violations = judge(night, {}, nights, DriftConfig())
    assert [row["violated"] for row in rows] == [["nights"], []]
    assert [str(one.key) for one in violations] == ["all language"]
    assert rows[0]["psi_nights"] > 0.25 > rows[0]["chance_nights"]
    assert str(violations[0]).startswith("all language: PSI ")
    assert "psi_training" not in rows[0]


def test_training_is_compared_by_label_and_limits_can_be_none() -> None:
    found, reference = {"0": 100, "0.5": 900}, {"0": 900, "0.5": 100}
    night = {OF_LABEL: Distribution(1000, found, 0.4, {"share": 0.9})}
    training = {("probability", OF_LABEL.label): Reference(1000, reference, 850)}
    rows, violations = judge(night, training, {}, DriftConfig())
    assert (rows[0]["violated"], rows[0]["share"], rows[0]["mean"]) == (["training"], 0.9, 0.4)
    assert [(one.key, one.reference) for one in violations] == [(OF_LABEL, "training")]
    assert str(violations[0]).startswith("fresh probability of 'bio\"tech\\'': PSI ")
    training["probability", OF_LABEL.label].over = 100  # nor is the share of the label held against it then
    rows, violations = judge(night, training, {}, DriftConfig(psi_training=None))
    assert rows[0]["psi_training"] > 1
    assert (rows[0]["violated"], violations) == ([], [])


@pytest.mark.parametrize(("n_reference", "n_found"), [(99, 5000), (5000, 99), (0, 5000)])
def test_few_companies_are_not_compared(n_reference: int, n_found: int) -> None:
    night = {LANGUAGE: Distribution(n_found, {"de": n_found})}
    rows, violations = judge(night, {}, {LANGUAGE: Reference(n_reference, {"en": n_reference})}, DriftConfig())
    assert violations == []
    assert "psi_nights" not in rows[0]


def test_a_rare_label_that_becomes_frequent_violates_although_the_index_hardly_moves() -> None:
    def judged(n: int, config: DriftConfig) -> tuple[float, list[str]]:
        was, now = {"0": n * 97 // 100, "0.5": n * 3 // 100}, {"0": n * 91 // 100, "0.5": n * 9 // 100}
        night = {OF_LABEL: Distribution(n, now, 0.1, {"share": 0.09})}
        rows, violations = judge(night, {}, {OF_LABEL: Reference(n, was, n * 0.03)}, config)
        return rows[0]["psi_nights"], [str(one).partition(": ")[2] for one in violations]

    psi, says = judged(10_000, DriftConfig())
    assert psi < 0.25
    assert says == ["share 9.0% against 3.0% in nights, 2 times are allowed"]
    assert judged(400, DriftConfig())[1] == []  # of so few companies it may be chance
    assert judged(10_000, DriftConfig(share_ratio=None))[1] == []


def mixed(companies: int, counts: dict[str, int], labels: dict[str, int]) -> dict[Key, Distribution]:
    """Make the mix of labels of companies, given by label and by how many labels they have."""
    return {
        Key("fresh", "mix"): Distribution(companies, counts),
        Key("fresh", "labels"): Distribution(companies, labels),
    }


def test_a_mix_that_moves_violates_against_nights_and_training_and_few_companies_prove_nothing() -> None:
    reference = Reference(1000, {"a": 800, "b": 100, "c": 100})

    def judged(companies: int, config: DriftConfig) -> tuple[dict[str, Any], list[str]]:
        part = companies // 10
        night = mixed(companies, {"a": 4 * part, "b": 5 * part, "c": part}, {"1": companies})
        rows, violations = judge(night, {("mix", None): reference}, {Key("fresh", "mix"): reference}, config)
        return rows[0], [one.reference for one in violations]

    row, over = judged(400, DriftConfig())
    assert over == row["violated"] == ["training", "nights"]
    assert row["psi_nights"] > 0.25 > row["chance_nights"]
    assert judged(400, DriftConfig(psi_training=None))[1] == ["nights"]
    assert judged(50, DriftConfig())[1] == []  # fewer than least_companies
    assert judged(50, DriftConfig(least_companies=10))[0]["violated"] == ["training", "nights"]
    assert judged(20, DriftConfig(least_companies=10))[1] == []


def test_labels_that_come_together_make_chance_greater_and_a_night_without_labels_is_not_compared() -> None:
    nights = {Key("fresh", "mix"): Reference(1000, {"a": 1000, "b": 1000})}
    alone, _ = judge(mixed(400, {"a": 200, "b": 200}, {"1": 400}), {}, nights, DriftConfig())
    together, _ = judge(mixed(200, {"a": 200, "b": 200}, {"2": 200}), {}, nights, DriftConfig())
    assert together[0]["chance_nights"] > alone[0]["chance_nights"]
    none, violations = judge(mixed(400, {"a": 0, "b": 0}, {"0": 400}), {}, nights, DriftConfig())
    assert "psi_nights" not in none[0]
    assert violations == []


def test_texts_that_are_halved_violate_by_their_length_and_may() -> None:
    tokens = Key("fresh", "tokens")
    was, now = {"48": 500, "96": 1000, "192": 500}, {"24": 50, "48": 100, "96": 50}
    night, nights = {tokens: Distribution(200, now)}, {tokens: Reference(2000, was)}
    _, violations = judge(night, {}, nights, DriftConfig(psi_nights=None))
    assert [one.says for one in violations] == [
        "texts are 2.00 times as long or short as in nights, 1.25 times are allowed"
    ]
    assert judge(night, {}, nights, DriftConfig(psi_nights=None, length_ratio=None))[1] == []
    assert judge(night, {}, nights, DriftConfig(psi_nights=None, length_ratio=2.5))[1] == []


def test_nights_add_up() -> None:
    one = {"population": "all", "figure": "status", "label": None, "share": None}
    found = sums_by_key(
        [one | {"companies": 6, "counts": {"ok": 5, "error": 1}}, one | {"companies": 2, "counts": {"ok": 2}}]
    )
    assert found == {Key("all", "status"): Reference(8, {"ok": 7, "error": 1})}
    of_label = {"population": "all", "figure": "probability", "label": "a", "counts": {"0": 10}, "companies": 10}
    (reference,) = sums_by_key([of_label | {"share": 0.2}, of_label | {"share": 0.4}]).values()
    assert (reference.counts, reference.over) == ({"0": 20}, pytest.approx(6.0))


@pytest.mark.parametrize(
    ("nights", "expected"),
    [
        ([], False),
        ([True], False),
        ([False, True], False),
        ([True, True], True),
        ([True, False, True], True),
        ([True, False, False, True], False),
        ([True, True, False], True),
    ],
)
def test_two_of_three_nights_are_a_signal(nights: list[bool], expected: bool) -> None:
    assert retrain(nights, DriftConfig()) is expected


@pytest.mark.parametrize(
    ("drifted", "expected"),
    [("", ""), ("....", "bcd"), ("...x", "abc"), ("..xx", "ab"), (".xxx", "ab"), ("xxxx", "ab"), ("x..x", "abc")],
)
def test_nights_that_may_make_a_signal_are_no_reference(drifted: str, expected: str) -> None:
    nights = [{"run_id": "abcd"[at], "drifted": ["a label"] if one == "x" else []} for at, one in enumerate(drifted)]
    assert reference_runs(nights, DriftConfig(reference_nights=3)) == list(expected)


def test_a_signal_that_cannot_come_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"drift\.signal_within: .*at least signal_nights, which is 4.*3"):
        load_config(ScoreConfig, None, ["source.table=x", "drift.signal_nights=4"])


def test_counts_over_batches_and_partitions_are_those_of_all_rows() -> None:
    random = np.random.default_rng(3)
    values, fresh = random.random((50, 2), np.float32), random.random(50) < 0.3
    thresholds = [0.5, float(np.float32(0.7))]

    def batch(rows: slice) -> pa.RecordBatch:
        cells = pa.array(values[rows].tolist(), pa.list_(pa.float32()))
        return pa.RecordBatch.from_arrays([pa.array(fresh[rows]), cells], ["is_fresh", "probabilities"])

    partitions = [[batch(slice(0, 10)), batch(slice(10, 30))], [batch(slice(30, 50))], []]
    count = counting(thresholds)
    rows = [row for part in partitions for found in count(iter(part)) for row in found.to_pylist()]
    found = add_up(rows, 2)
    for is_fresh in (True, False):
        expected = values[fresh == is_fresh]
        assert found[is_fresh].companies == len(expected)
        assert found[is_fresh].bins.sum(axis=1).tolist() == [len(expected)] * 2
        assert found[is_fresh].over.tolist() == (expected >= np.float32(thresholds)).sum(axis=0).tolist()
        assert found[is_fresh].total == pytest.approx(expected.sum(axis=0), rel=1e-6)
