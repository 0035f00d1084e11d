"""Sections of ``ptec evaluate``, the result of a comparison in the form of the table ``evaluations``, and the gate.

A rule of the gate reads recorded figures only, so it can be applied again to an earlier comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field

from ptec_udf.config import WarehouseConfig
from ptec_udf.section import Section

MIN_POSITIVES = 10
"""Labels with fewer positives are not judged one by one."""

MAX_ECE_RISE = 0.01
"""Largest rise of the calibration error over the champion's, or over that by chance."""

_MAX_NAMED = 5


class GateConfig(Section):
    """Requirements for a challenger before an alias may move to it; a loss counts where its whole interval does."""

    aliases: list[str] = Field(default_factory=lambda: ["champion"], description="aliases that the gate guards")
    min_gain: float = Field(
        -0.01,
        ge=-1,
        le=1,
        description="the whole interval of the gain in mAP must lie above this; -0.01: not worse by more than 0.01 "
        "(non-inferiority); 0: surely better",
    )
    min_rows: int = Field(100, ge=1, description="fewest evaluated rows")
    max_decision_loss: float = Field(0.02, ge=0, le=1, description="largest loss of macro-F1")
    max_label_loss: float = Field(
        0.1, ge=0, le=1, description="largest loss of average precision of a label with at least 10 positives"
    )
    max_ece: float = Field(0.04, ge=0, le=1, description="calibration error that always passes")
    min_coverage: float = Field(1.0, ge=0, le=1, description="share of the champion's labels that must be kept")
    min_judged: float = Field(
        0.8, ge=0, le=1, description="share of the labels of both models that must occur in the evaluated rows"
    )


class EvaluateConfig(Section):
    """Which rows compare a challenger with which champion."""

    warehouse: WarehouseConfig = WarehouseConfig()
    extract: str = Field(min_length=1, description="folder of an extract made with the challenger's template")
    champion_extract: str | None = Field(
        None, min_length=1, description="folder of an extract made with the champion's template; null: the same"
    )
    split: Literal["dev", "test"] = Field("dev", description="evaluated rows")
    alias: str = Field("champion", pattern=r"^[A-Za-z0-9_]+$", description="alias of the model to compare with")
    gate: GateConfig = GateConfig()


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
        return f"{self.difference:+.4f} ({self.low:+.4f} to {self.high:+.4f})"

    @property
    def loss(self) -> float:
        """The loss that is certain: that at the upper end of the interval."""
        return max(0.0, -(self.high or 0.0))


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
        return one.loss <= limit, one.loss, limit, f"{rule}, its change is {one}"
    return False, None, limit, f"{rule}, it could not be measured"


def _label_loss(found: Comparison, gate: GateConfig) -> _Result:
    """Refuse a certain loss of any label with enough positives."""
    limit, counted = gate.max_label_loss, [one for one in found.measured("ap") if one.positives >= MIN_POSITIVES]
    lost = sorted((one for one in counted if one.loss > limit), key=lambda one: one.loss, reverse=True)
    message = (
        f"no label with at least {MIN_POSITIVES} positives may certainly lose more than {limit:g}, of {len(counted)} "
        f"{len(lost)} do{_listed([f'{one.label!r} (change {one})' for one in lost])}"
    )
    return not lost, max((one.loss for one in counted), default=0.0), limit, message


def _calibration(found: Comparison, gate: GateConfig) -> _Result:
    """Require a small calibration error, or about the champion's, or about that of perfect probabilities."""
    value, references = found.challenger.get("ece"), (found.champion.get("ece"), found.challenger.get("ece_by_chance"))
    limit = max([gate.max_ece, *(round(ece + MAX_ECE_RISE, 6) for ece in references if ece is not None)])
    was = "it could not be measured: no probability is high enough" if value is None else f"was: {value:.4g}"
    message = f"the calibration error must be at most {limit:.4g}, {was}"
    return value is not None and value <= limit, value, limit, message


def _coverage(found: Comparison, gate: GateConfig) -> _Result:
    n_kept, lost, limit = len(found.labels) + len(found.unjudged), found.only_champion, gate.min_coverage
    value = n_kept / max(n_kept + len(lost), 1)
    message = f"at least {limit:.0%} of the champion's labels must be kept, was: {value:.0%}"
    message += f"; missing{_listed([repr(label) for label in lost])}" if lost else ""
    return value >= limit, value, limit, message


def _judged(found: Comparison, gate: GateConfig) -> _Result:
    """Require rows with nearly all labels, or the other rules cover a few only."""
    value = len(found.measured("ap")) / max(len(found.labels) + len(found.unjudged), 1)
    message = f"at least {gate.min_judged:.0%} of the labels of both models must occur in the rows, was: {value:.0%}"
    return value >= gate.min_judged, value, gate.min_judged, message


def _listed(things: Sequence[str]) -> str:
    more = f" and {len(things) - _MAX_NAMED} more" if len(things) > _MAX_NAMED else ""
    return f": {', '.join(things[:_MAX_NAMED])}{more}" if things else ""
