"""What looks for anomalies of nights at once finds each that is planted."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.at_once import State, anomalies
from tests.tiny import TEMPLATE

DONE = [{"outcome": "done"}]
COMPANIES = {"a": ("x", "one"), "b": ("y", "two")}


def score(key: str, name: str, about: str, **more: Any) -> dict[str, Any]:
    text_hash = hashlib.sha256(TEMPLATE.format(name=name, about=about).encode()).hexdigest()
    row = {"key": key, "model_id": "champion", "text_hash": text_hash, "logits": [1.0], "labels": ["media"]}
    return row | {"removed_in": None} | more


def change(key: str, run_id: str = "run-1", **more: Any) -> dict[str, Any]:
    return {"run_id": run_id, "key": key, "label": "media", "entered": True} | more


RUN = {"run_id": "run-1", "outcome": "done", "model_id": "champion", "alias": "champion", "ended": 1}
HELD = "run 0123456789ab-1 holds the scores of model 0123; start again when it has ended"
SHADOW = RUN | {"run_id": "run-9", "outcome": "failed", "model_id": "other", "config": '{"shadow_of": "run-1"}'}
STAGED = {"run_id": "run-1", "model_id": "other"}
DRIFT = {"run_id": "run-1", "population": "all", "figure": "probability", "label": "media"}
OTHERS_RUN = RUN | {"run_id": "run-2", "model_id": "other", "alias": None}
GOOD = State(
    models=["champion", "other"],
    sources={3: COMPANIES},
    scores=[
        score(key, *company, model_id=model) for key, company in COMPANIES.items() for model in ("champion", "other")
    ],
    runs=[row | {"source_version": 3} for row in (RUN, OTHERS_RUN)],
    changes=[change(key, run_id) for key in COMPANIES for run_id in ("run-1", "run-2")],
    holds=[],
    staging=[],
    drift=[DRIFT, DRIFT | {"label": "energy"}, DRIFT | {"run_id": "run-2"}],
)


def scores(*rows: dict[str, Any]) -> State:
    """The good state with other scores of the champion."""
    others = [row for row in GOOD.scores if row["model_id"] == "other"]
    return replace(GOOD, scores=[*rows, *others])


A, B = score("a", "x", "one"), score("b", "y", "two")
PLANTED: dict[str, tuple[State, list[dict[str, Any]], str]] = {
    "doubled row": (scores(A, A, B), DONE, "a stands 2 times"),
    "lost company": (scores(A), DONE, "1 companies are lost or left over under champion"),
    "left over": (scores(A, B, score("c", "z", "three", labels=[])), DONE, "1 companies are lost or left over"),
    "stale text": (scores(score("a", "x", "old"), B), DONE, "a stands with another text"),
    "two logits": (scores(A, score("b", "x", "one", logits=[2.0])), DONE, "one text has two logits"),
    "wrong label": (scores(score("a", "x", "one", labels=["energy"]), B), DONE, "a: changes do not lead"),
    "removed with changes": (scores(A, B | {"removed_in": 2}), DONE, "b: changes do not lead"),
    "change twice": (replace(GOOD, changes=[*GOOD.changes, change("a")]), DONE, "a enters or leaves a label twice"),
    "of the other model": (
        replace(GOOD, changes=GOOD.changes[:-1]),
        DONE,
        "b: changes do not lead to its labels under oth",
    ),
    "run twice": (replace(GOOD, runs=[*GOOD.runs, GOOD.runs[0]]), DONE, "run run-1 is done 2 times"),
    "drift twice": (replace(GOOD, drift=[*GOOD.drift, DRIFT]), DONE, "drift of run run-1 stands 2 times"),
    "drift of nobody": (
        replace(GOOD, drift=[DRIFT | {"run_id": "run-7"}]),
        DONE,
        "drift of run run-7, which is not done",
    ),
    "hold": (replace(GOOD, holds=[{}]), DONE, "1 rows left in holds"),
    "staging": (replace(GOOD, staging=[STAGED]), DONE, "1 rows left in score_staging"),
    "staging of the champion beside a refused shadow": (
        replace(GOOD, runs=[*GOOD.runs, SHADOW | {"error": HELD}], staging=[STAGED | {"model_id": "champion"}]),
        DONE,
        "1 rows left in score_staging",
    ),
    "shadow failed": (
        replace(GOOD, runs=[*GOOD.runs, SHADOW | {"error": "ValueError"}]),
        DONE,
        "run run-9: ValueError",
    ),
    "failed": (GOOD, [*DONE, {"outcome": "failed", "error": "why"}], "why"),
    "nobody is named": (GOOD, [*DONE, {"outcome": "refused", "error": "busy"}], "no other run is named: busy"),
    "none done": (GOOD, [{"outcome": "nothing_to_do"}], "no night was done"),
}


def test_a_good_state_has_none() -> None:
    refused = {"outcome": "refused", "error": "run 0123456789ab-1 holds alias champion; start again"}
    assert anomalies(GOOD, [*DONE, refused]) == []


def test_what_is_kept_for_a_refused_shadow_is_none() -> None:
    kept = replace(GOOD, runs=[*GOOD.runs, SHADOW | {"error": HELD}], staging=[STAGED])
    assert anomalies(kept, DONE) == []


@pytest.mark.parametrize("planted", PLANTED)
def test_each_anomaly_is_found(planted: str) -> None:
    state, ended, says = PLANTED[planted]
    assert any(says in one for one in anomalies(state, ended))
