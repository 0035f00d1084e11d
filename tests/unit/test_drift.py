"""Limits of drift, and the signal that some violated nights in a row of nights give."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ptec_udf.config import ScoreConfig, load_config
from ptec_udf.drift.config import DriftConfig
from ptec_udf.drift.count import add_up, counting
from ptec_udf.drift.judge import Distribution, Key, Reference, judge, retrain, sums_by_key
from ptec_udf.errors import ConfigError

LANGUAGE = Key("all", "language")
OF_LABEL = Key("fresh", "probability", "bio\"tech'")


def test_a_shift_against_nights_violates_and_an_equal_mix_does_not() -> None:
    night = {LANGUAGE: Distribution({"de": 400, "en": 600}), Key("all", "status"): Distribution({"ok": 1000})}
    nights = {LANGUAGE: Reference({"en": 7000}), Key("all", "status"): Reference({"ok": 7000})}
    rows, violations = judge(night, {}, nights, DriftConfig())
    assert [row["violated"] for row in rows] == [["nights"], []]
    assert [str(one.key) for one in violations] == ["all language"]
    assert rows[0]["psi_nights"] > 0.25 + rows[0]["chance_nights"]
    assert str(violations[0]).startswith("all language: PSI ")
    assert "psi_training" not in rows[0]


def test_training_is_compared_by_label_and_limits_can_be_none() -> None:
    found, reference = {"0": 100, "0.5": 900}, {"0": 900, "0.5": 100}
    night = {OF_LABEL: Distribution(found, 0.4, {"share": 0.9})}
    training = {OF_LABEL.label: Reference(reference, 850)}
    rows, violations = judge(night, training, {}, DriftConfig())
    assert (rows[0]["violated"], rows[0]["share"], rows[0]["mean"]) == (["training"], 0.9, 0.4)
    assert [(one.key, one.reference) for one in violations] == [(OF_LABEL, "training")]
    assert str(violations[0]).startswith("fresh probability of 'bio\"tech\\'': PSI ")
    rows, violations = judge(night, training, {}, DriftConfig(psi_training=None))
    assert rows[0]["psi_training"] > 1
    assert violations == []


@pytest.mark.parametrize(("n_reference", "n_found"), [(99, 5000), (5000, 99), (0, 5000)])
def test_few_companies_are_not_compared(n_reference: int, n_found: int) -> None:
    night = {LANGUAGE: Distribution({"de": n_found})}
    rows, violations = judge(night, {}, {LANGUAGE: Reference({"en": n_reference})}, DriftConfig())
    assert violations == []
    assert "psi_nights" not in rows[0]


def test_a_rare_label_that_becomes_frequent_violates_although_the_index_hardly_moves() -> None:
    def judged(times: int, config: DriftConfig) -> tuple[float, list[str]]:
        was, now = {"0": 970 * times, "0.5": 30 * times}, {"0": 910 * times, "0.5": 90 * times}
        night = {OF_LABEL: Distribution(now, 0.1, {"share": 0.09})}
        rows, violations = judge(night, {}, {OF_LABEL: Reference(was, 30 * times)}, config)
        return rows[0]["psi_nights"], [str(one).partition(": ")[2] for one in violations]

    psi, says = judged(100, DriftConfig())
    assert psi < 0.25
    assert says == ["share 9.0% against 3.0% in nights, 2 times are allowed"]
    assert judged(1, DriftConfig())[1] == []  # of so few companies it may be chance
    assert judged(100, DriftConfig(share_ratio=None))[1] == []


def test_nights_add_up() -> None:
    one = {"population": "all", "figure": "status", "label": None, "counts": {"ok": 5, "error": 1}, "share": None}
    found = sums_by_key([one, one | {"counts": {"ok": 2}}])
    assert found == {Key("all", "status"): Reference({"ok": 7, "error": 1})}
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
