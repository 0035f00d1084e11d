"""The rules that guard the champion's alias.

A rule reads recorded figures only, so the gate can be applied again to an earlier comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict

from training.evaluate.comparison import Comparison, Difference
from training.evaluate.config import GateConfig

_MAX_NAMED = 5


class RuleResult(BaseModel):
    """The result of one rule.

    Attributes:
        rule: its name.
        passed: whether it lets the challenger through.
        value: what was measured; None where it could not be.
        limit: the limit that applied.
        message: both in a sentence.
    """

    model_config = ConfigDict(frozen=True)

    rule: str
    passed: bool
    value: float | None
    limit: float
    message: str


def rows(found: Comparison, gate: GateConfig) -> RuleResult:
    """Require enough rows that the challenger is known not to have learned from."""
    unknown = "" if found.held_out else ", and the challenger may have learned from them"
    return RuleResult(
        rule="rows",
        passed=found.held_out and found.n_rows >= gate.min_rows,
        value=found.n_rows,
        limit=gate.min_rows,
        message=f"at least {gate.min_rows} held-out rows are needed, was: {found.n_rows}{unknown}",
    )


def gain(found: Comparison, gate: GateConfig) -> RuleResult:
    """Require a challenger that is not worse by more than ``-min_gain``, chance allowed for."""
    difference = found.overall(gate.metric)
    low = difference.low if difference else None
    was = f"the gain is {_spell(difference)}" if difference and low is not None else "it could not be measured"
    return RuleResult(
        rule="gain",
        passed=low is not None and low > gate.min_gain,
        value=low,
        limit=gate.min_gain,
        message=f"the interval of the gain in {gate.metric} must lie above {gate.min_gain:g}, {was}",
    )


def decisions(found: Comparison, gate: GateConfig) -> RuleResult:
    """Refuse a certain loss of macro-F1, since ranking does not depend on thresholds."""
    difference = found.overall("macro_f1")
    high = difference.high if difference else None
    was = f"its change is {_spell(difference)}" if difference and high is not None else "it could not be measured"
    return RuleResult(
        rule="decisions",
        passed=high is not None and high >= -gate.max_decision_loss,
        value=None if high is None else max(0.0, -high),
        limit=gate.max_decision_loss,
        message=f"macro-F1 must not certainly lose more than {gate.max_decision_loss:g}, {was}",
    )


def label_loss(found: Comparison, gate: GateConfig) -> RuleResult:
    """Refuse a certain loss of any label with enough positives."""
    counted = [one for one in found.per_label(gate.metric) if one.positives >= gate.min_label_positives]
    losses = sorted(((-one.high, one) for one in counted if one.high is not None), key=lambda loss: -loss[0])
    lost = [one for loss, one in losses if loss > gate.max_label_loss]
    named = [f"{one.label!r} (change {_spell(one)})" for one in lost[:_MAX_NAMED]]
    was = f"of {len(counted)} {len(lost)} do" + (f": {', '.join(named)}{_more(lost)}" if lost else "")
    return RuleResult(
        rule="label_loss",
        passed=not lost,
        value=max(0.0, losses[0][0]) if losses else 0.0,
        limit=gate.max_label_loss,
        message=f"no label with at least {gate.min_label_positives} positives may certainly lose more than "
        f"{gate.max_label_loss:g}, {was}",
    )


def calibration(found: Comparison, gate: GateConfig) -> RuleResult:
    """Require a small calibration error, or about the champion's, or about that of perfect probabilities."""
    value = found.challenger.get("ece")
    references = {"the champion's": found.champion.get("ece"), "by chance": found.challenger.get("ece_by_chance")}
    limit, why = gate.max_ece, ""
    for name, ece in references.items():
        if ece is not None and round(ece + gate.max_ece_rise, 6) > limit:
            limit, why = round(ece + gate.max_ece_rise, 6), f" ({name} {ece:.4g} and {gate.max_ece_rise:g})"
    was = "it could not be measured: no probability is high enough" if value is None else f"was: {value:.4g}"
    return RuleResult(
        rule="calibration",
        passed=value is not None and value <= limit,
        value=value,
        limit=limit,
        message=f"the calibration error must be at most {limit:.4g}{why}, {was}",
    )


def coverage(found: Comparison, gate: GateConfig) -> RuleResult:
    """Require the champion's labels."""
    lost = found.only_champion
    n_kept = len(found.labels) + len(found.unjudged)
    value = n_kept / (n_kept + len(lost)) if n_kept + len(lost) else 0.0
    named = f"; missing: {', '.join(map(repr, lost[:_MAX_NAMED]))}{_more(lost)}" if lost else ""
    return RuleResult(
        rule="coverage",
        passed=value >= gate.min_coverage,
        value=value,
        limit=gate.min_coverage,
        message=f"at least {gate.min_coverage:.0%} of the champion's labels must be kept, was: {value:.0%}{named}",
    )


def judged(found: Comparison, gate: GateConfig) -> RuleResult:
    """Require rows with nearly all labels, or the other rules cover a few only."""
    n_shared = len(found.labels) + len(found.unjudged)
    n_occurring = sum(one.positives > 0 for one in found.per_label(gate.metric))
    value = n_occurring / n_shared if n_shared else 0.0
    return RuleResult(
        rule="judged",
        passed=value >= gate.min_judged,
        value=value,
        limit=gate.min_judged,
        message=f"at least {gate.min_judged:.0%} of the labels of both models must occur in the rows, was: {value:.0%}",
    )


RULES: tuple[Callable[[Comparison, GateConfig], RuleResult], ...] = (
    rows,
    gain,
    decisions,
    label_loss,
    calibration,
    coverage,
    judged,
)


def apply_gate(found: Comparison, gate: GateConfig) -> list[RuleResult]:
    """Apply all rules."""
    return [rule(found, gate) for rule in RULES]


def broken_rules(results: Sequence[RuleResult]) -> list[str]:
    """Name the rules that stop the challenger."""
    return [result.rule for result in results if not result.passed]


def _more(things: Sequence[object]) -> str:
    return f" and {len(things) - _MAX_NAMED} more" if len(things) > _MAX_NAMED else ""


def _spell(one: Difference) -> str:
    return f"{one.difference:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
