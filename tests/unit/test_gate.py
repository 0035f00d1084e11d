"""Each rule of the gate: broken alone, at its limit, and where nothing could be measured."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ptec_training.evaluate.gate import Comparison, Difference, GateConfig, RuleResult, apply_gate, broken_rules

GATE = GateConfig(min_rows=100, max_label_loss=0.1, min_judged=0.6)


def difference(
    figure: str, label: str | None, low: float | None, high: float | None, positives: int = 20
) -> Difference:
    """A difference with an interval; the champion has 0.5."""
    middle = None if low is None or high is None else (low + high) / 2
    return Difference(
        figure=figure,
        label=label,
        positives=positives,
        champion=0.5,
        challenger=None if middle is None else 0.5 + middle,
        difference=middle,
        low=low,
        high=high,
    )


def comparison(**changes: Any) -> Comparison:
    """A comparison in which the challenger passes every rule; ``ranking``, ``decided``, ``b`` replace a difference."""
    differences = {
        "ranking": difference("map", None, 0.01, 0.05, positives=50),
        "decided": difference("macro_f1", None, -0.01, 0.03, positives=50),
        "a": difference("ap", "a", -0.15, 0.1),
        "b": difference("ap", "b", -0.3, 0.1),
        "b_decided": difference("f1", "b", -0.3, -0.2),
    }
    differences |= {name: changes.pop(name) for name in list(changes) if name in differences}
    values: dict[str, Any] = {
        "n_rows": 200,
        "left_out": {},
        "labels": ["a", "b"],
        "unjudged": ["c"],
        "only_champion": [],
        "only_challenger": ["new"],
        "champion": {"ece": 0.02},
        "challenger": {"ece": 0.02},
        "differences": list(differences.values()),
    }
    return Comparison(**values | changes)


def result_of(rule: str, gate: GateConfig = GATE, **changes: Any) -> RuleResult:
    return next(one for one in apply_gate(comparison(**changes), gate) if one.rule == rule)


def ranking(low: float | None, high: float | None) -> dict[str, Any]:
    return {"ranking": difference("map", None, low, high)}


def decided(low: float | None, high: float | None) -> dict[str, Any]:
    return {"decided": difference("macro_f1", None, low, high)}


def label_b(low: float, high: float, positives: int = 20) -> dict[str, Any]:
    return {"b": difference("ap", "b", low, high, positives)}


class TestGate:
    def test_passes_a_better_challenger(self) -> None:
        results = apply_gate(comparison(), GATE)
        rules = ["rows", "gain", "decisions", "label_loss", "calibration", "coverage", "judged"]
        assert [result.rule for result in results] == rules
        assert broken_rules(results) == []

    def test_passes_an_equal_challenger_by_default(self) -> None:
        zero = {"difference": 0.0, "low": 0.0, "high": 0.0}
        equal = [one.model_copy(update=zero) for one in comparison().differences]
        assert broken_rules(apply_gate(comparison(differences=equal), GATE)) == []
        strict = GATE.model_copy(update={"min_gain": 0.0})
        assert broken_rules(apply_gate(comparison(differences=equal), strict)) == ["gain"]

    @pytest.mark.parametrize(
        ("changes", "rule", "message"),
        [
            ({"n_rows": 99}, "rows", "at least 100 held-out rows are needed, was: 99"),
            (ranking(-0.011, 0.05), "gain", r"above -0.01, the gain is \+0.0195 \(-0.0110 to \+0.0500\)"),
            (ranking(None, None), "gain", "could not be measured"),
            (label_b(-0.3, -0.11), "label_loss", r"of 2 1 do: 'b' \(change -0.2050 \(-0.3000 to -0.1100"),
            ({"challenger": {"ece": 0.0401}}, "calibration", "must be at most 0.04, was: 0.0401"),
            ({"challenger": {"ece": None}}, "calibration", "no probability is high enough"),
            (decided(-0.3, -0.021), "decisions", r"more than 0.02, its change is -0.1605 \(-0.3000 to"),
            (decided(None, None), "decisions", "could not be measured"),
            ({"unjudged": ["c", "d"]}, "judged", "at least 60% of the labels of both models .* was: 50%"),
            ({"only_champion": ["lost"]}, "coverage", "100% .*, was: 75%; missing: 'lost'$"),
        ],
    )
    def test_names_the_broken_rule_alone(self, changes: dict[str, Any], rule: str, message: str) -> None:
        assert broken_rules(apply_gate(comparison(**changes), GATE)) == [rule]
        found = result_of(rule, **changes)
        assert re.search(message, found.message), found.message

    def test_limits_may_be_reached(self) -> None:
        assert result_of("rows", n_rows=100).passed
        assert result_of("label_loss", **label_b(-0.3, -0.1)).passed
        assert result_of("decisions", **decided(-0.3, -0.02)).passed
        assert result_of("calibration", challenger={"ece": 0.04}).passed
        assert result_of("coverage", GATE.model_copy(update={"min_coverage": 0.75}), only_champion=["lost"]).passed

    def test_rare_label_is_not_judged_alone(self) -> None:
        assert result_of("label_loss", **label_b(-0.5, -0.4, positives=9)).passed
        found = result_of("label_loss", **label_b(-0.5, -0.4, positives=10))
        assert (found.passed, found.value, found.limit) == (False, 0.4, 0.1)

    @pytest.mark.parametrize(
        ("champion", "by_chance", "limit"), [(0.02, 0.025, 0.04), (0.035, 0.02, 0.045), (0.035, 0.043, 0.053)]
    )
    def test_calibration_limit_follows_champion_and_chance(self, champion, by_chance, limit) -> None:
        sides = {"champion": {"ece": champion}, "challenger": {"ece": limit, "ece_by_chance": by_chance}}
        found = result_of("calibration", **sides)
        assert (found.passed, found.limit) == (True, limit)
        sides["challenger"]["ece"] = limit + 0.001
        assert not result_of("calibration", **sides).passed
