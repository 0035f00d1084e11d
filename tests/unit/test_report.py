"""The page of a report: whole without a network, and no label or key becomes markup."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from ptec_jobs.report.render import render
from tests.report_facts import HOSTILE, NOW, facts_of

VOID = {"meta", "polyline", "path", "circle", "br"}


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


def heading_of(page: str) -> str:
    return " ".join(re.sub("<[^>]+>", "", re.search("<h1>(.*?)</h1>", page, re.S)[1]).split())


class TestFirstScreen:
    @pytest.mark.parametrize(
        ("facts", "shown"),
        [
            (facts_of(), "5,000 companies checked; 40 entered a screen, 12 left"),
            (facts_of() | {"drift": []}, "55,000 companies checked; 40 entered a screen, 12 left"),
            (
                facts_of(counts={"ok": 1, "removed": 7}, skipped=0) | {"drift": [], "moved_companies": {}},
                "1 company checked; none entered or left a screen",
            ),
            (facts_of(outcome="failed", error="x"), "The run failed: no company entered or left a screen"),
            (facts_of(outcome="nothing_to_do"), "Nothing to do: no company entered or left a screen"),
        ],
    )
    def test_heading_counts_companies(self, facts: dict[str, Any], shown: str) -> None:
        assert heading_of(render(facts, NOW)) == shown

    def test_states_reasons_in_words(self) -> None:
        page = re.sub("<[^>]+>", "", render(facts_of(), NOW))
        assert "Why companies moved: text changed&nbsp;(44), new company&nbsp;(4)" in page
        assert "▲&nbsp;12 text changed&nbsp;(11), new company&nbsp;(1)" in page

    @pytest.mark.parametrize(
        ("reason", "words"),
        [
            ("model", "new model"),
            ("threshold", "new threshold or calibration"),
            ("correction", "corrected by an analyst"),
            ("removed", "left the source"),
        ],
    )
    def test_states_each_reason_in_words(self, reason: str, words: str) -> None:
        company = {"key": "c1", "reason": reason, "old_probability": 0.5, "new_probability": 0.4}
        left = {"companies": 1, "reasons": {reason: 1}, "first": [company]}
        page = render(facts_of() | {"labels": [facts_of()["labels"][0] | {"left": left}]}, NOW)
        assert re.search(rf"▼&nbsp;1</strong>\s*{words}\s*<ul", page)
        assert f'<td class="words">{words}</td>' in page

    def test_shows_first_companies_with_probabilities(self) -> None:
        first = [
            {"key": f"c{at}", "reason": "text", "old_probability": old, "new_probability": new}
            for at, (old, new) in enumerate([(0.1, 0.9), (None, 0.8), (0.7, None), (0.2, 0.6)])
        ]
        labels = [facts_of()["labels"][0] | {"entered": {"companies": 12, "reasons": {"text": 12}, "first": first}}]
        page = render(facts_of() | {"labels": labels}, NOW)
        keys = re.search('<ul class="keys">(.*?)</ul>', page, re.S)[1]
        shown = [" ".join(re.sub("<[^>]+>", "", item).split()) for item in keys.split("</li>")]
        assert shown == ["c0 0.10 → 0.90", "c1 0.80", "c2 was 0.70", "and 9 more", ""]

    @pytest.mark.parametrize(("threshold", "is_low"), [(0.12, True), (0.3, False), (None, False)])
    def test_explains_low_thresholds(self, threshold: float | None, is_low: bool) -> None:
        labels = [facts_of()["labels"][0] | {"threshold": threshold}]
        page = render(facts_of() | {"labels": labels}, NOW)
        sentence = "of 100 companies at probability 0.1, about 10 have the label."
        assert (sentence in page) is is_low
        assert ("threshold&nbsp;0.120&nbsp;*" in page) is is_low

    def test_shows_twelve_labels_and_counts_the_others(self, page: str) -> None:
        table = page[page.index('<table class="moves">') : page.index("<nav")]
        assert table.count('<th scope="row">') == 12
        assert "The 12 labels with most changes, of 100." in table

    def test_without_drift_metrics_and_errors_is_whole(self) -> None:
        facts = facts_of(drifted=None, retrain=None, rows_per_second=None) | {"drift": [], "errors": []}
        facts["labels"] = [row | {"drift": None, "companies": None} for row in facts["labels"]]
        facts["model"]["metrics"] = {}
        page = render(facts)
        assert "Drift was not measured for this run." in page
        assert "The artifact has no metrics." in page
        assert "No company has an error." in page
