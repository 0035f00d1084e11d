"""Drift: shifts exceed a limit, chance does not, and two of three runs are a signal."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from ptec_udf.config import ScoreConfig
from ptec_udf.errors import ConfigError
from ptec_udf.monitor.distribution import compare, count_probabilities
from ptec_udf.monitor.judge import (
    Distribution,
    DriftConfig,
    Key,
    is_time_to_retrain,
    judge,
    reference_runs,
    sum_by_key,
)
from ptec_udf.monitor.training import training_reference
from tests.site import load_config

STATUS, TOKENS, MIX = (Key("all", figure) for figure in ("status", "tokens", "mix"))
LABEL = Key("fresh", "probability", "bio\"tech'")


def counted(n: int, counts: dict[str, int], total: float | None = None, over: int | None = None) -> Distribution:
    return Distribution(n, Counter(counts), total, over)


class TestDistribution:
    def test_counts_are_those_of_all_probabilities(self) -> None:
        values = np.random.default_rng(0).random((500, 3), np.float32)
        values[0] = [0.0, 1.0, 0.5]
        counts = count_probabilities(values)
        assert [sum(one.values()) for one in counts] == [500] * 3
        assert (min(map(float, counts[0])), max(map(float, counts[1])) > 0.999) == (0.0, True)
        assert counts[2]["0.5"] == ((values[:, 2] >= 0.5) & (values[:, 2] < 1 / (1 + np.exp(-0.5)))).sum()

    def test_equal_distributions_have_no_shift(self) -> None:
        counts = {"1": 50, "2": 100, "4": 50}
        assert compare(counts, 200, counts, 200, is_numeric=True).psi == 0

    def test_index_is_the_population_stability_index(self) -> None:
        shift = compare({"a": 5000, "b": 5000}, 10_000, {"a": 8000, "b": 2000}, 10_000)
        assert shift.psi == pytest.approx(0.3 * np.log(8 / 5) - 0.3 * np.log(2 / 5), rel=1e-3)

    @pytest.mark.parametrize("n", [120, 1000])
    def test_samples_of_one_population_stay_below_chance(self, n: int) -> None:
        draw = np.random.default_rng(1)
        shares = draw.dirichlet(np.ones(30))
        names = list(map(str, range(30)))
        for is_numeric in (True, False):
            for _ in range(200):
                one, other = (dict(zip(names, draw.multinomial(n, shares).tolist(), strict=True)) for _ in range(2))
                shift = compare(one, n, other, n, is_numeric=is_numeric)
                assert shift.psi < shift.chance


class TestJudge:
    def test_a_shift_against_earlier_runs_violates(self) -> None:
        run = {STATUS: counted(1000, {"ok": 600, "empty": 400}), TOKENS: counted(1000, {"48": 1000})}
        earlier = {STATUS: counted(7000, {"ok": 7000}), TOKENS: counted(7000, {"48": 7000})}
        rows, violations = judge(run, {}, earlier, DriftConfig())
        assert [row["violated"] for row in rows] == [["runs"], []]
        assert [one.partition("PSI")[0] for one in violations] == ["all status: "]
        assert "psi_training" not in rows[0]

    def test_another_label_mix_violates(self) -> None:
        reference = counted(1000, {"a": 800, "b": 100, "c": 100})
        run = {MIX: counted(400, {"a": 160, "b": 200, "c": 40})}
        _, violations = judge(run, {("mix", None): reference}, {MIX: reference}, DriftConfig())
        assert {one.split()[5].rstrip(",") for one in violations} == {"training", "runs"}
        _, violations = judge(run, {("mix", None): reference}, {}, DriftConfig(psi_training=None))
        assert violations == []

    def test_a_label_is_compared_with_training(self) -> None:
        run = {LABEL: counted(1000, {"0": 100, "0.5": 900}, 400.0, 900)}
        training = {("probability", LABEL.label): counted(1000, {"0": 900, "0.5": 100}, over=850)}
        rows, violations = judge(run, training, {}, DriftConfig())
        assert (rows[0]["violated"], rows[0]["share"], rows[0]["mean"]) == (["training"], 0.9, 0.4)
        assert violations[0].startswith("fresh probability of 'bio\"tech\\'': PSI ")

    @pytest.mark.parametrize(("n_reference", "n_found"), [(99, 5000), (5000, 99), (0, 5000)])
    def test_few_companies_are_not_compared(self, n_reference: int, n_found: int) -> None:
        run, earlier = {STATUS: counted(n_found, {"ok": n_found})}, {"error": n_reference}
        rows, violations = judge(run, {}, {STATUS: counted(n_reference, earlier)}, DriftConfig())
        assert violations == []
        assert "psi_runs" not in rows[0]

    @pytest.mark.parametrize(("n", "ratio", "is_over"), [(10_000, 2.0, True), (400, 2.0, False), (10_000, 4.0, False)])
    def test_a_rare_label_that_becomes_frequent_violates(self, n: int, ratio: float, is_over: bool) -> None:
        was, now = {"0": n * 97 // 100, "0.5": n * 3 // 100}, {"0": n * 91 // 100, "0.5": n * 9 // 100}
        run = {LABEL: counted(n, now, 0.1, n * 9 // 100)}
        earlier = {LABEL: counted(n, was, over=n * 3 // 100)}
        rows, violations = judge(run, {}, earlier, DriftConfig(share_ratio=ratio))
        assert rows[0]["psi_runs"] < 0.25
        message = "fresh probability of 'bio\"tech\\'': share 9.0% against 3.0% in runs, limit 2 times"
        assert violations == [message] * is_over


class TestReferences:
    def test_runs_add_up(self) -> None:
        row: dict[str, Any] = {"population": "fresh", "figure": "probability", "label": "a", "companies": 10}
        rows = [row | {"share": 0.2, "counts": {"0": 10}}, row | {"share": 0.4, "counts": {"0": 9, "0.5": 1}}]
        assert sum_by_key(rows) == {Key("fresh", "probability", "a"): counted(20, {"0": 19, "0.5": 1}, over=6)}

    @pytest.mark.parametrize(
        ("drifted", "expected"),
        [("", ""), ("....", "bcd"), ("...x", "abc"), ("..xx", "ab"), (".xxx", "ab"), ("xxxx", "ab"), ("x..x", "abc")],
    )
    def test_runs_that_count_for_a_signal_are_left_out(self, drifted: str, expected: str) -> None:
        runs = [{"run_id": "abcd"[at], "drifted": ["a label"] * (one == "x")} for at, one in enumerate(drifted)]
        assert reference_runs(runs, DriftConfig(reference_runs=3)) == list(expected)

    def test_training_rows_are_those_of_dev(self) -> None:
        label = {"probabilities": {"0": 5, "0.5": 3}, "predicted": 2}
        splits = {"dev": {"per_label": {"a": label}}, "validation": {"per_label": {"b": label}}}
        assert training_reference({"splits": splits}) == {
            ("probability", "a"): counted(8, {"0": 5, "0.5": 3}, over=2),
            ("mix", None): counted(8, {"a": 2}),
        }
        unknown = {"drift_reference": {"a": label | {"predicted": None}}, "splits": splits}
        assert set(training_reference(unknown)) == {("probability", "a")}
        assert training_reference({}) == {}


class TestSignal:
    @pytest.mark.parametrize(
        ("drifted", "expected"),
        [("", False), ("x", False), (".x", False), ("xx", True), ("x.x", True), ("x..x", False), ("xx.", True)],
    )
    def test_comes_of_two_of_three_runs(self, drifted: str, expected: bool) -> None:
        assert is_time_to_retrain([one == "x" for one in drifted], DriftConfig()) is expected

    def test_that_cannot_come_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"drift\.signal_within: must be at least signal_runs, which is 4"):
            load_config(ScoreConfig, None, ["source.table=x", "drift.signal_runs=4"])
