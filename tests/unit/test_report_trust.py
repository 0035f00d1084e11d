"""Whether the report says that scores can be trusted, and why."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from ptec_jobs.report.render import render
from tests.report_facts import FAILED, NOW, RUN, drift_row, facts_of


def trust_of(page: str) -> dict[str, tuple[str, str]]:
    """State and text of each check, by its title; under "verdict" the colour and the sentence."""
    found = {
        title: (state, " ".join(re.sub("<[^>]+>", "", text).split()))
        for state, title, text in re.findall(
            r'<li><span class="state (\w+)">\w+</span><span><strong>(\w+)\.</strong>(.*?)</span></li>', page, re.S
        )
    }
    state, text = re.search(r'<section class="trust (\w+)".*?<p class="verdict">(.*?)</p>', page, re.S).groups()
    return found | {"verdict": (state, " ".join(re.sub("<[^>]+>", "", text).split()))}


def calibrated(ece: float | None, by_chance: float | None = 0.017, split: str = "dev") -> dict[str, Any]:
    overall = {"n_rows": 500, "map": 0.5, "macro_f1": 0.5, "ece": ece, "ece_by_chance": by_chance}
    return facts_of()["model"] | {"metrics": {"splits": {split: {"overall": overall}}}}


class TestTrust:
    def test_of_a_good_run(self) -> None:
        found = trust_of(render(facts_of(drifted=[]), NOW))
        assert found.pop("verdict") == (
            "good",
            "Scores can be trusted: no drift, calibration error 0.02, 3 errors.",
        )
        assert list(found) == ["Run", "Freshness", "Drift", "Calibration", "Errors", "Gate"]
        assert {state for state, _ in found.values()} == {"good"}
        assert found["Run"][1] == "Done in 12 min 34 s, 5,000 companies written."
        assert found["Errors"][1] == "3 of 54,980 companies have no score because of an error: see which."

    @pytest.mark.parametrize(
        ("facts", "title", "state", "shown"),
        [
            (facts_of(), "Drift", "check", "1 limit is exceeded"),
            (facts_of(drifted=["a", "b"]), "Drift", "check", "2 limits are exceeded"),
            (facts_of(retrain=True), "Drift", "bad", "time to retrain"),
            (facts_of(drifted=None, retrain=None) | {"drift": []}, "Drift", "unknown", "Not measured"),
            (
                facts_of(drifted=[]) | {"drift": [drift_row("status", psi_training=None)]},
                "Drift",
                "unknown",
                "Nothing to compare with",
            ),
            (facts_of() | {"model": calibrated(0.04)}, "Calibration", "good", "by 0.040 on average"),
            (facts_of() | {"model": calibrated(0.041)}, "Calibration", "check", "on 500 held-out companies"),
            (facts_of() | {"model": calibrated(0.08, 0.071)}, "Calibration", "good", "0.071 is expected by chance"),
            (facts_of() | {"model": calibrated(None)}, "Calibration", "unknown", "no calibration error"),
            (facts_of() | {"model": calibrated(0.2, split="test")}, "Calibration", "check", "by 0.200"),
            (facts_of() | {"model": calibrated(0.2, split="validation")}, "Calibration", "unknown", "no calibration"),
            (facts_of() | {"companies": 300}, "Errors", "good", "3 of 300 companies"),
            (facts_of() | {"companies": 299}, "Errors", "check", "3 of 299 companies"),
            (facts_of() | {"companies": 29}, "Errors", "bad", "3 of 29 companies"),
            (facts_of() | {"companies": 0, "errors": []}, "Errors", "good", "0 of 0 companies"),
            (facts_of() | {"gate": "forced: gain, coverage"}, "Gate", "check", "refused it: gain, coverage."),
            (facts_of(outcome="failed", error="OUT_OF_MEMORY", counts=None), "Run", "bad", "OUT_OF_MEMORY. Fix"),
            (facts_of(outcome="nothing_to_do", counts={}), "Run", "good", "Nothing was written."),
            (facts_of(outcome="running", ended=None), "Run", "check", "Nothing was written."),
            (facts_of(counts={"ok": 3, "null_key": 2}), "Run", "good", "3 companies written"),
            (facts_of(), "Freshness", "good", "ended 2026-11-27 02:12 UTC."),
            (facts_of(ended=NOW - timedelta(days=4)), "Freshness", "check", "more than three days"),
            (
                facts_of(ended=NOW - timedelta(days=4)) | {"later": RUN | {"outcome": "nothing_to_do"}},
                "Freshness",
                "good",
                "A later run, ended 2026-11-27 02:12 UTC, found no change.",
            ),
            (facts_of() | {"later": FAILED}, "Freshness", "bad", "Run cafe-2 of 2026-11-27 02:00 UTC failed: more"),
            (facts_of() | {"later": RUN | {"run_id": "cafe-3"}}, "Freshness", "check", "Run cafe-3 of 2026"),
        ],
    )
    def test_of_each_check(self, facts: dict[str, Any], title: str, state: str, shown: str) -> None:
        found = trust_of(render(facts, NOW))[title]
        assert found[0] == state
        assert shown in found[1]

    @pytest.mark.parametrize(
        ("facts", "state", "verdict"),
        [
            (
                facts_of(drifted=None, retrain=None) | {"drift": [], "errors": []},
                "unknown",
                "No problem found, but not everything is known: drift is unknown, calibration error 0.02, no errors.",
            ),
            (
                facts_of() | {"gate": "forced: gain"},
                "check",
                "Check before use: 1 drift limit exceeded, the gate refused the model.",
            ),
            (facts_of() | {"later": FAILED}, "bad", "Act before use: a later run failed."),
            (
                facts_of(outcome="failed", error="x", retrain=True),
                "bad",
                "Act before use: the run failed, lasting drift.",
            ),
        ],
    )
    def test_verdict_is_that_of_the_worst_check(self, facts: dict[str, Any], state: str, verdict: str) -> None:
        assert trust_of(render(facts, NOW))["verdict"] == (state, verdict)

    @pytest.mark.parametrize("gate", [None, "first"])
    def test_shows_no_gate_where_nothing_was_compared(self, gate: str | None) -> None:
        assert "Gate" not in trust_of(render(facts_of() | {"gate": gate}, NOW))
