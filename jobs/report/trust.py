"""Judge whether the scores of a run can be trusted; the words are in the template."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

from ptec_training.evaluate.gate import MAX_ECE_RISE, GateConfig
from ptec_udf.nightly.runs import DONE, FAILED, NOTHING

GOOD, UNKNOWN, CHECK, BAD = STATES = ("good", "unknown", "check", "bad")  # the worst last
_MAX_AGE = timedelta(days=3)
_MAX_ERRORS = {BAD: 0.1, CHECK: 0.01}  # share of the active companies


def judge(facts: dict[str, Any]) -> dict[str, str]:
    """Return the state of each check that applies: one of ``STATES``."""
    run, later, held_out = facts["run"], facts["later"], facts["held_out"]
    n_errors, n_companies = facts["n_errors"], facts["companies"]
    newest = later or run  # a later run without work confirms the scores
    age = facts["now"] - (newest["ended"] or newest["started"]).astimezone(UTC)
    freshness = CHECK if age > _MAX_AGE else GOOD
    if later and later["outcome"] != NOTHING:
        freshness = BAD if later["outcome"] == FAILED else CHECK
    ece, max_ece = held_out.get("ece"), (held_out.get("ece_by_chance") or 0.0) + MAX_ECE_RISE
    is_calibrated = ece is not None and ece <= max(GateConfig().max_ece, max_ece)
    states = {
        "run": {DONE: GOOD, NOTHING: GOOD, FAILED: BAD}.get(run["outcome"], CHECK),
        "freshness": freshness,
        "drift": BAD if run["retrain"] else CHECK if run["drifted"] else GOOD if facts["is_compared"] else UNKNOWN,
        "calibration": UNKNOWN if ece is None else GOOD if is_calibrated else CHECK,
        "errors": next((state for state, share in _MAX_ERRORS.items() if n_errors > share * n_companies), GOOD),
    }
    gate = {} if facts["gate"] in (None, "first") else {"gate": GOOD if facts["gate"] == "passed" else CHECK}
    return states | gate
