"""The gate between a challenger and the champion's place: rules on recorded figures.

A rule looks at figures only, so that the gate of a configuration can be applied again to what was found earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict

from training.evaluate.comparison import Comparison, Difference
from training.evaluate.config import GateConfig

_MOST_NAMED = 5


class Outcome(BaseModel):
    """What one rule says.

    Attributes:
        rule: its name.
        passed: whether it lets the challenger through.
        value: what was found; None where it could not be measured.
        limit: what it was held against.
        says: both in a sentence.
    """

    model_config = ConfigDict(frozen=True)

    rule: str
    passed: bool
    value: float | None
    limit: float
    says: str


def rows(found: Comparison, gate: GateConfig) -> Outcome:
    """Enough rows must judge, and the challenger must be known not to have learned from them."""
    known = "" if found.held_out else ", and the challenger may have learned from them"
    return Outcome(
        rule="rows",
        passed=found.held_out and found.n_rows >= gate.min_rows,
        value=found.n_rows,
        limit=gate.min_rows,
        says=f"at least {gate.min_rows} rows that the challenger has not learned from must judge, "
        f"{found.n_rows} did{known}",
    )


def gain(found: Comparison, gate: GateConfig) -> Outcome:
    """The challenger must be better by more than chance explains."""
    name, difference = gate.metric, found.overall(gate.metric)
    low = difference.low if difference else None
    asked = f"the interval of the gain in {name} must lie above {gate.min_gain:g}"
    was = f"the gain is {_spelled(difference)}" if difference and low is not None else "it could not be measured"
    passed = low is not None and low > gate.min_gain
    return Outcome(rule="gain", passed=passed, value=low, limit=gate.min_gain, says=f"{asked}, {was}")


def decisions(found: Comparison, gate: GateConfig) -> Outcome:
    """The labels that are given must not surely be worse, since ranking does not look at thresholds."""
    difference = found.overall("macro_f1")
    high = difference.high if difference else None
    asked = f"macro-F1 may not surely lose more than {gate.max_decision_loss:g}"
    was = f"its change is {_spelled(difference)}" if difference and high is not None else "it could not be measured"
    passed = high is not None and high >= -gate.max_decision_loss
    value = None if high is None else max(0.0, -high)
    return Outcome(rule="decisions", passed=passed, value=value, limit=gate.max_decision_loss, says=f"{asked}, {was}")


def label_loss(found: Comparison, gate: GateConfig) -> Outcome:
    """No label that is frequent enough may surely lose more than is allowed."""
    counted = [one for one in found.of_labels(gate.metric) if one.positives >= gate.min_label_positives]
    losses = sorted(((-one.high, one) for one in counted if one.high is not None), key=lambda loss: -loss[0])
    lost = [one for loss, one in losses if loss > gate.max_label_loss]
    asked = (
        f"no label with at least {gate.min_label_positives} positives may surely lose more than "
        f"{gate.max_label_loss:g}, of {len(counted)} "
    )
    named = [f"{one.label!r} (change {_spelled(one)})" for one in lost[:_MOST_NAMED]]
    says = asked + (f"{len(lost)} did: {', '.join(named)}{_more(lost)}" if lost else "none did")
    value = max(0.0, losses[0][0]) if losses else 0.0
    return Outcome(rule="label_loss", passed=not lost, value=value, limit=gate.max_label_loss, says=says)


def calibration(found: Comparison, gate: GateConfig) -> Outcome:
    """Probabilities must be honest: well calibrated, or about as well as the champion's or as perfect ones would be."""
    value = found.challenger.get("ece")
    beside = {"the champion's": found.champion.get("ece"), "by chance": found.challenger.get("ece_by_chance")}
    limit, why = gate.max_ece, ""
    for whose, ece in beside.items():
        if ece is not None and round(ece + gate.max_ece_rise, 6) > limit:
            limit, why = round(ece + gate.max_ece_rise, 6), f" ({whose} {ece:.4g} and {gate.max_ece_rise:g})"
    asked = f"the calibration error must be at most {limit:.4g}{why}"
    was = "it could not be measured: no probability is high enough" if value is None else f"was: {value:.4g}"
    passed = value is not None and value <= limit
    return Outcome(rule="calibration", passed=passed, value=value, limit=limit, says=f"{asked}, {was}")


def coverage(found: Comparison, gate: GateConfig) -> Outcome:
    """The champion's labels must still be there."""
    lost = found.only_champion
    kept = len(found.labels) + len(found.unjudged)
    value = kept / (kept + len(lost)) if kept + len(lost) else 0.0
    named = f"; it lacks {', '.join(map(repr, lost[:_MOST_NAMED]))}{_more(lost)}" if lost else ""
    says = f"{_share(gate.min_coverage)} of the champion's labels or more must still be there, was: {_share(value)}"
    return Outcome(
        rule="coverage",
        passed=value >= gate.min_coverage,
        value=value,
        limit=gate.min_coverage,
        says=says + named,
    )


def judged(found: Comparison, gate: GateConfig) -> Outcome:
    """The rows must tell of nearly all labels, or the other rules speak for a few."""
    known = len(found.labels) + len(found.unjudged)
    occurs = sum(one.positives > 0 for one in found.of_labels(gate.metric))
    value = occurs / known if known else 0.0
    says = f"{_share(gate.min_judged)} of the labels of both or more must occur in the rows, was: {_share(value)}"
    return Outcome(rule="judged", passed=value >= gate.min_judged, value=value, limit=gate.min_judged, says=says)


def _share(value: float) -> str:
    return f"{100 * value:.4g} %"


RULES: tuple[Callable[[Comparison, GateConfig], Outcome], ...] = (
    rows,
    gain,
    decisions,
    label_loss,
    calibration,
    coverage,
    judged,
)


def apply_gate(found: Comparison, gate: GateConfig) -> list[Outcome]:
    """Apply all rules."""
    return [rule(found, gate) for rule in RULES]


def broken(outcomes: Sequence[Outcome]) -> list[str]:
    """Name the rules that do not let the challenger through."""
    return [outcome.rule for outcome in outcomes if not outcome.passed]


def _more(things: Sequence[object]) -> str:
    """Say how many things are not named."""
    return f" and {len(things) - _MOST_NAMED} more" if len(things) > _MOST_NAMED else ""


def _spelled(one: Difference) -> str:
    """Write a difference with its interval."""
    return f"{one.difference:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
