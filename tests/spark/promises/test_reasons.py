"""Promise 4: every entry and exit has its reason, against an independent calculation over three scripted runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from tests.plain import PlainScorer
from tests.spark.support import Site
from tests.tiny import LABELS, TEMPLATE, tiny_artifact, tiny_companies
from tests.variants import with_thresholds


class Move(NamedTuple):
    """A company enters or leaves a label."""

    entered: bool
    reason: str
    previous_model_id: str
    model_id: str
    source_version: int


@dataclass(frozen=True)
class Shown:
    """A company as a screen shows it."""

    text: str
    network: int
    labels: frozenset[str]
    corrections: dict[str, bool]
    probabilities: dict[str, float]


@dataclass
class Script:
    """The source, the corrections and the champion after each step, calculated without the project."""

    site: Site
    companies: dict[str, tuple[str, str]]
    corrections: dict[str, dict[str, bool]] = field(default_factory=dict)
    model: str = ""
    models: dict[str, tuple[int, dict[str, float]]] = field(default_factory=dict)
    scorers: dict[int, PlainScorer] = field(default_factory=dict)
    shown: dict[str, Shown] = field(default_factory=dict)
    shown_model: str = ""
    version: int = -1

    def write(self) -> None:
        self.site.write([(key, *texts) for key, texts in self.companies.items()])
        self.version += 1

    def promote(self, network: int, thresholds: dict[str, float] | None = None) -> None:
        """Promote a model with these weights, and with other thresholds of some labels."""
        artifact = tiny_artifact(self.site.folder, seed=network)
        self.scorers.setdefault(network, PlainScorer(artifact))
        if thresholds:
            artifact = with_thresholds(artifact, self.site.folder / f"thresholds-{len(self.models)}", thresholds)
        self.model = self.site.register(artifact)
        self.models[self.model] = network, dict.fromkeys(LABELS, 0.5) | (thresholds or {})
        self.site.promote(self.model)

    def correct(self, key: str, label: str, *, is_true: bool) -> None:
        self.corrections.setdefault(key, {})[label] = is_true
        self.site.correct((key, label, is_true))

    def expect(self) -> dict[tuple[str, str], tuple[Move, list[float | None]]]:
        """Calculate who enters and leaves which label since the last call, why, and the numbers of both sides."""
        now = {key: self._show(key) for key in self.companies}
        ids = (self.shown_model or self.model, self.model)
        found = {}
        for key in self.shown.keys() | now.keys():
            sides = old, new = self.shown.get(key), now.get(key)
            before, after = (one.labels if one else frozenset() for one in sides)
            for label in before ^ after:
                move = Move(label in after, _reason(old, new, label), *ids, self.version)
                numbers = [one and one.probabilities[label] for one in sides]
                found[key, label] = move, [*numbers, *(self.models[model][1][label] for model in ids)]
        self.shown, self.shown_model = now, self.model
        return found

    def _show(self, key: str) -> Shown:
        network, thresholds = self.models[self.model]
        name, about = self.companies[key]
        text = TEMPLATE.format(name=name, about=about)
        probabilities = self.scorers[network].probabilities(text)
        said = self.corrections.get(key, {})
        labels = [label for label in LABELS if said.get(label, probabilities[label] >= thresholds[label])]
        return Shown(text, network, frozenset(labels), dict(said), probabilities)


def _reason(old: Shown | None, new: Shown | None, label: str) -> str:
    """The reason of a move, as the analyst's page explains it."""
    if old is None or new is None:
        return "new" if old is None else "removed"
    if old.corrections.get(label) != new.corrections.get(label):
        return "correction"
    if old.text != new.text:
        return "text"
    return "model" if old.network != new.network else "threshold"


@pytest.fixture
def script(empty: Site) -> Script:
    found = [(one["key"], (one["name"], one["about"])) for one in tiny_companies(25)]
    return Script(empty, dict(found))


def steps(script: Script) -> Iterator[None]:
    """Change the world before each of three runs."""
    others = [(one["name"], one["about"]) for one in tiny_companies(20, seed=7)]
    script.promote(0)
    script.write()
    script.correct("c0010", LABELS[0], is_true=True)
    yield
    for at in range(4):
        script.companies[f"c{at:04d}"] = others[at]
    removed = {f"c{at:04d}": script.companies.pop(f"c{at:04d}") for at in range(4, 7)}
    script.companies["fresh"] = others[4]
    script.write()
    for at, label in enumerate(LABELS):
        script.correct(f"c{10 + at:04d}", label, is_true=at % 2 == 1)  # the first one had a correction before
    script.promote(0, {LABELS[0]: 0.3, LABELS[1]: 0.7})
    yield
    script.promote(1)
    script.companies |= {"c0004": removed["c0004"], "c0020": others[5]}
    del script.companies["c0021"]
    script.write()
    script.correct("c0022", LABELS[2], is_true=True)
    yield


class TestThreeRuns:
    def test_every_move_has_its_reason(self, script: Script) -> None:
        expected = {}
        for _ in steps(script):
            result = script.site.run()
            assert result["outcome"] == "done"
            expected[result["run_id"]] = script.expect()
        reasons = {move.reason for moves in expected.values() for move, _ in moves.values()}
        assert reasons == {"new", "removed", "correction", "text", "model", "threshold"}
        rows = script.site.sql("SELECT * FROM {db}.why_changed")
        assert len(rows) == sum(map(len, expected.values()))
        for row in rows:
            move, numbers = expected[row["run_id"]].pop((row["key"], row["label"]))
            assert Move(*(row[name] for name in Move._fields)) == move
            found = [row[f"{side}_{figure}"] for figure in ("probability", "threshold") for side in ("old", "new")]
            assert found == pytest.approx(numbers, abs=2e-5)
        assert not any(expected.values())
        shown = {key: set(one.labels) for key, one in script.shown.items()}
        assert script.site.labels() == shown
        for label in LABELS:
            screen = script.site.sql(f"SELECT key FROM {{db}}.screen('{label}', NULL)")
            assert {row["key"] for row in screen} == {key for key, labels in shown.items() if label in labels}
