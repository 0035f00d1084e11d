"""The result of a comparison, in the form of the table ``evaluations``, and the rules that judge it.

A rule reads recorded figures only, so the gate can be applied again to an earlier comparison.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from training.evaluate.config import GateConfig

MIN_POSITIVES = 10
"""Labels with fewer positives are not judged one by one."""

MAX_ECE_RISE = 0.01
"""Largest rise of the calibration error over the champion's, or over that by chance."""

_MAX_NAMED = 5


class Difference(BaseModel):
    """Challenger minus champion in map, macro_f1, or ap or f1 of one label, with its interval; None if undefined."""

    figure: str
    label: str | None
    positives: int
    champion: float | None
    challenger: float | None
    difference: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """Write the difference with its interval."""
        return f"{self.difference:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


class Comparison(BaseModel):
    """Champion and challenger on the same rows; for the fields see the table ``evaluations``."""

    n_rows: int
    left_out: dict[str, int]
    labels: list[str]
    unjudged: list[str]
    only_champion: list[str]
    only_challenger: list[str]
    champion: dict[str, float | None]
    challenger: dict[str, float | None]
    differences: list[Difference]

    def measured(self, figure: str) -> list[Difference]:
        """Return the differences in a figure whose interval is defined."""
        return [one for one in self.differences if one.figure == figure and one.high is not None]


class RuleResult(BaseModel):
    """The result of one rule: the measured value (None: not measured), the limit, and both in a sentence."""

    rule: str
    passed: bool
    value: float | None
    limit: float
    message: str


def apply_gate(found: Comparison, gate: GateConfig) -> list[RuleResult]:
    """Apply all rules."""
    results = []
    for rule in (_rows, _gain, _decisions, _label_loss, _calibration, _coverage, _judged):
        passed, value, limit, message = rule(found, gate)
        name = rule.__name__.removeprefix("_")
        results.append(RuleResult(rule=name, passed=passed, value=value, limit=limit, message=message))
    return results


def broken_rules(results: Sequence[RuleResult]) -> list[str]:
    """Name the rules that stop the challenger."""
    return [result.rule for result in results if not result.passed]


_Result = tuple[bool, float | None, float, str]


def _rows(found: Comparison, gate: GateConfig) -> _Result:
    message = f"at least {gate.min_rows} held-out rows are needed, was: {found.n_rows}"
    return found.n_rows >= gate.min_rows, found.n_rows, gate.min_rows, message


def _gain(found: Comparison, gate: GateConfig) -> _Result:
    rule = f"the interval of the gain in mAP must lie above {gate.min_gain:g}"
    for one in found.measured("map"):
        return (one.low or 0.0) > gate.min_gain, one.low, gate.min_gain, f"{rule}, the gain is {one}"
    return False, None, gate.min_gain, f"{rule}, it could not be measured"


def _decisions(found: Comparison, gate: GateConfig) -> _Result:
    """Refuse a certain loss of macro-F1, since ranking does not depend on thresholds."""
    limit, rule = gate.max_decision_loss, f"macro-F1 must not certainly lose more than {gate.max_decision_loss:g}"
    for one in found.measured("macro_f1"):
        return _loss(one) <= limit, _loss(one), limit, f"{rule}, its change is {one}"
    return False, None, limit, f"{rule}, it could not be measured"


def _label_loss(found: Comparison, gate: GateConfig) -> _Result:
    """Refuse a certain loss of any label with enough positives."""
    limit, counted = gate.max_label_loss, [one for one in found.measured("ap") if one.positives >= MIN_POSITIVES]
    lost = sorted((one for one in counted if _loss(one) > limit), key=_loss, reverse=True)
    message = (
        f"no label with at least {MIN_POSITIVES} positives may certainly lose more than {limit:g}, of {len(counted)} "
        f"{len(lost)} do{_listed([f'{one.label!r} (change {one})' for one in lost])}"
    )
    return not lost, max(map(_loss, counted), default=0.0), limit, message


def _calibration(found: Comparison, gate: GateConfig) -> _Result:
    """Require a small calibration error, or about the champion's, or about that of perfect probabilities."""
    references = {"the champion's": found.champion.get("ece"), "by chance": found.challenger.get("ece_by_chance")}
    limits = {gate.max_ece: ""}
    for name, ece in references.items():
        if ece is not None:
            limits.setdefault(round(ece + MAX_ECE_RISE, 6), f" ({name} {ece:.4g} and {MAX_ECE_RISE:g})")
    limit, value = max(limits), found.challenger.get("ece")
    was = "it could not be measured: no probability is high enough" if value is None else f"was: {value:.4g}"
    message = f"the calibration error must be at most {limit:.4g}{limits[limit]}, {was}"
    return value is not None and value <= limit, value, limit, message


def _coverage(found: Comparison, gate: GateConfig) -> _Result:
    n_kept, lost = len(found.labels) + len(found.unjudged), found.only_champion
    value = n_kept / max(n_kept + len(lost), 1)
    message = f"at least {gate.min_coverage:.0%} of the champion's labels must be kept, was: {value:.0%}"
    return (
        value >= gate.min_coverage,
        value,
        gate.min_coverage,
        message + ("; missing" + _listed([repr(label) for label in lost]) if lost else ""),
    )


def _judged(found: Comparison, gate: GateConfig) -> _Result:
    """Require rows with nearly all labels, or the other rules cover a few only."""
    value = len(found.measured("ap")) / max(len(found.labels) + len(found.unjudged), 1)
    message = f"at least {gate.min_judged:.0%} of the labels of both models must occur in the rows, was: {value:.0%}"
    return value >= gate.min_judged, value, gate.min_judged, message


def _loss(one: Difference) -> float:
    """Return the loss that is certain: that at the upper end of the interval."""
    return max(0.0, -(one.high or 0.0))


def _listed(things: Sequence[str]) -> str:
    more = f" and {len(things) - _MAX_NAMED} more" if len(things) > _MAX_NAMED else ""
    return f": {', '.join(things[:_MAX_NAMED])}{more}" if things else ""
