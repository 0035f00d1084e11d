"""Each rule of the gate, broken alone, at its limit and where nothing could be measured."""

from __future__ import annotations

import re
from typing import Any

import pytest

from training.evaluate.comparison import Comparison, Difference
from training.evaluate.config import GateConfig
from training.evaluate.gate import (
    RULES,
    apply_gate,
    broken,
    calibration,
    coverage,
    decisions,
    gain,
    judged,
    label_loss,
    rows,
)

GATE = GateConfig(min_rows=100, min_gain=0.0, max_label_loss=0.1, min_label_positives=10, min_judged=0.6)


def difference(
    figure: str, label: str | None, low: float | None, high: float | None, positives: int = 20
) -> Difference:
    """A difference with an interval; the champion has .5."""
    middle = None if low is None or high is None else (low + high) / 2
    value = None if middle is None else 0.5 + middle
    return Difference(
        figure=figure,
        label=label,
        positives=positives,
        champion=0.5,
        challenger=value,
        difference=middle,
        low=low,
        high=high,
    )


def found(**changes: Any) -> Comparison:
    """A comparison in which the challenger passes every rule."""
    values: dict[str, Any] = {
        "n_rows": 200,
        "left_out": {},
        "held_out": True,
        "labels": ["a", "b"],
        "unjudged": ["c"],
        "only_champion": [],
        "only_challenger": ["new"],
        "champion": {"ece": 0.02},
        "challenger": {"ece": 0.02},
        "confidence": 0.95,
        "differences": [
            difference("map", None, 0.01, 0.05, positives=50),
            difference("macro_f1", None, -0.01, 0.03, positives=50),
            difference("ap", "a", -0.15, 0.1),
            difference("ap", "b", -0.3, 0.1),
            difference("f1", "a", -0.15, 0.1),
            difference("f1", "b", -0.3, -0.2),
        ],
    }
    return Comparison(**values | changes)


def overall(low: float | None, high: float | None) -> list[Difference]:
    """The differences of ``found`` with another one in mAP."""
    return [difference("map", None, low, high), *found().differences[1:]]


def decided(low: float | None, high: float | None) -> list[Difference]:
    """The differences of ``found`` with another one in macro-F1."""
    return [found().differences[0], difference("macro_f1", None, low, high), *found().differences[2:]]


def label_of(low: float, high: float, positives: int = 20) -> list[Difference]:
    """The differences of ``found`` with another one in the label b."""
    return [*found().differences[:3], difference("ap", "b", low, high, positives), *found().differences[4:]]


def test_a_challenger_that_is_better_passes_every_rule() -> None:
    outcomes = apply_gate(found(), GATE)
    assert [outcome.rule for outcome in outcomes] == [rule.__name__ for rule in RULES]
    assert broken(outcomes) == []


@pytest.mark.parametrize(
    ("changes", "rule", "says"),
    [
        ({"n_rows": 99}, "rows", "at least 100 rows .* must judge, 99 did"),
        ({"held_out": False}, "rows", "the challenger may have learned from them"),
        ({"differences": overall(-0.001, 0.05)}, "gain", r"above 0, the gain is \+0.0245 \(-0.0010 to \+0.0500\)"),
        ({"differences": overall(-0.2, -0.1)}, "gain", "the gain is -0.1500"),
        ({"differences": overall(None, None)}, "gain", "could not be measured"),
        ({"differences": label_of(-0.3, -0.11)}, "label_loss", r"1 did: 'b' \(change -0.2050 \(-0.3000 to -0.1100"),
        ({"challenger": {"ece": 0.0401}}, "calibration", "must be at most 0.04, was: 0.0401"),
        ({"challenger": {"ece": None}}, "calibration", "no probability is high enough"),
        ({"champion": {"ece": None}, "challenger": {"ece": 0.05}}, "calibration", "must be at most 0.04, was: 0.05"),
        ({"differences": decided(-0.3, -0.021)}, "decisions", r"more than 0.02, its change is -0.1605 \(-0.3000 to"),
        ({"differences": decided(None, None)}, "decisions", "could not be measured"),
        ({"unjudged": ["c", "d"]}, "judged", "60 % of the labels of both or more must occur in the rows, was: 50 %"),
        ({"differences": label_of(-0.1, 0.1, positives=0)}, "judged", "was: 33.33 %"),
        ({"only_champion": ["lost"]}, "coverage", "100 % .*, was: 75 %; it lacks 'lost'$"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_named_alone_with_value_and_limit(changes: dict[str, Any], rule: str, says: str) -> None:
    outcomes = apply_gate(found(**changes), GATE)
    assert broken(outcomes) == [rule]
    [outcome] = [one for one in outcomes if one.rule == rule]
    assert re.search(says, outcome.says), outcome.says


def test_an_equal_challenger_is_not_better() -> None:
    no_change = [one.model_copy(update={"difference": 0.0, "low": 0.0, "high": 0.0}) for one in found().differences]
    assert broken(apply_gate(found(differences=no_change), GATE)) == ["gain"]


@pytest.mark.parametrize("low", [0.02, 0.0200001])
def test_the_gain_must_exceed_its_limit(low: float) -> None:
    outcome = gain(found(differences=overall(low, 0.05)), GATE.model_copy(update={"min_gain": 0.02}))
    assert (outcome.passed, outcome.value, outcome.limit) == (low > 0.02, low, 0.02)


def test_the_gate_may_ask_for_another_figure() -> None:
    gate = GATE.model_copy(update={"metric": "macro_f1"})
    assert broken(apply_gate(found(), gate)) == ["gain", "label_loss"]
    assert "'b'" in label_loss(found(), gate).says


def test_limits_may_be_reached() -> None:
    assert rows(found(n_rows=100), GATE).passed
    assert label_loss(found(differences=label_of(-0.3, -0.1)), GATE).passed
    assert decisions(found(differences=decided(-0.3, -0.02)), GATE).passed
    third = [*found().differences, difference("ap", "c", -0.1, 0.1)]
    assert judged(found(labels=list("abc"), unjudged=list("de"), differences=third), GATE).passed
    assert calibration(found(challenger={"ece": 0.04}), GATE).passed
    at_three_quarters = GATE.model_copy(update={"min_coverage": 0.75})
    assert coverage(found(only_champion=["lost"]), at_three_quarters).passed


@pytest.mark.parametrize(
    ("champion", "by_chance", "limit", "why"),
    [
        (0.02, 0.025, 0.04, "0.04, was"),
        (0.035, 0.02, 0.045, "the champion's"),
        (0.035, 0.043, 0.053, "by chance 0.043"),
    ],
)
def test_calibration_may_be_as_the_champions_or_as_by_chance(
    champion: float, by_chance: float, limit: float, why: str
) -> None:
    sides = {"champion": {"ece": champion}, "challenger": {"ece": limit, "ece_by_chance": by_chance}}
    outcome = calibration(found(**sides), GATE)
    assert (outcome.passed, outcome.limit) == (True, limit)
    assert why in outcome.says
    sides["challenger"]["ece"] = limit + 0.001
    assert not calibration(found(**sides), GATE).passed


def test_a_rare_label_is_not_looked_at_alone() -> None:
    assert label_loss(found(differences=label_of(-0.5, -0.4, positives=9)), GATE).passed
    outcome = label_loss(found(differences=label_of(-0.5, -0.4, positives=10)), GATE)
    assert (outcome.passed, outcome.value, outcome.limit) == (False, 0.4, 0.1)


def test_the_label_that_lost_most_is_named_first_and_not_all_are() -> None:
    many = [difference("ap", f"label {at}", -0.9, -0.2 - at / 100) for at in range(7)]
    says = label_loss(found(differences=many), GATE).says
    assert "of 7 7 did: 'label 6'" in says
    assert says.endswith("and 2 more")
    lost = [f"label {at}" for at in range(7)]
    assert coverage(found(only_champion=lost), GATE).says.endswith("'label 4' and 2 more")


def test_a_badly_calibrated_champion_may_give_way_to_one_about_as_bad() -> None:
    changes = {"champion": {"ece": 0.09}, "challenger": {"ece": 0.1}}
    outcome = calibration(found(**changes), GATE)
    assert (outcome.passed, outcome.limit) == (True, pytest.approx(0.1))
    assert not calibration(found(**changes | {"challenger": {"ece": 0.101}}), GATE).passed
    assert "(the champion's 0.09 and 0.01)" in outcome.says
