"""A scripted month: what ``why_changed`` says of it is what an independent calculation finds, also after VACUUM.

PTEC_NIGHTS=30 makes it a whole month; without it there are fewer nights, in which all the same things happen.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ptec_udf.config_file import load_config
from ptec_udf.engine.scorer import Scorer
from ptec_udf.model.artifact import Artifact, load_artifact
from ptec_udf.model.backbone import resolve
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.nights import Site
from tests.tiny import LABELS, TEMPLATE, tiny_companies
from training.calibrate.config import RecalibrateConfig
from training.calibrate.recalibrate import recalibrate

N_NIGHTS = int(os.environ.get("PTEC_NIGHTS", "9"))  # the eighth is the first of a champion that comes back
N_COMPANIES = 40


@dataclass(frozen=True)
class Shown:
    """What a screen knows of a company."""

    text: str
    logits_of: str
    labels: frozenset[str]
    said: dict[str, bool]
    probabilities: dict[str, float]


class Move(NamedTuple):
    """A company enters or leaves a label."""

    entered: bool
    reason: str
    previous_model_id: str
    model_id: str
    source_version: int
    numbers: list[float | None]
    """Old and new probability, old and new threshold."""


Moves = dict[tuple[str, str], Move]
"""By company and label."""


@dataclass
class Month:
    """The source, the corrections and the champion as the script has them, and what it expects of each night."""

    site: Site
    draw: random.Random = field(default_factory=lambda: random.Random(5))
    companies: dict[str, dict[str, Any]] = field(default_factory=dict)
    gone: dict[str, dict[str, Any]] = field(default_factory=dict)
    corrections: dict[str, dict[str, bool]] = field(default_factory=dict)
    version: int = -1
    champion: str = ""
    champion_before: str = ""
    shown: dict[str, Shown] = field(default_factory=dict)
    scorers: dict[str, tuple[Artifact, Scorer]] = field(default_factory=dict)

    def write(self) -> None:
        """Write the source as it is now."""
        self.site.write([(one["key"], one["name"], one["about"]) for one in self.companies.values()])
        self.version += 1

    def promote(self, model_id: str) -> None:
        """Let the champion be another model."""
        if model_id != self.champion:
            registry.promote(self.site.warehouse, model_id, alias="champion", who="test", why="", check=lambda *_: None)
            self.champion = model_id

    def judge_otherwise(self, night: int) -> None:
        """Give one label of the champion another threshold."""
        label, threshold = self.draw.choice(LABELS), self.draw.choice((0.3, 0.45, 0.55, 0.7))
        folder = self.site.folder
        settings = [
            f"warehouse.database={self.site.warehouse.database}",
            f"warehouse.artifacts={folder / 'keep'}",
            f"out={folder / f'thresholds-{night}'}",
            f"set_thresholds.{label}={threshold}",
        ]
        made = recalibrate(self.site.warehouse, load_config(RecalibrateConfig, None, settings))
        self.promote(made["model_id"])

    def correct(self) -> None:
        """Say something of labels of some companies, also what stands already and what nobody knows."""
        rows = []
        for key in [*self.draw.sample(sorted(self.companies), 4), "nobody"]:
            label, is_true = self.draw.choice((*LABELS, "unknown")), self.draw.random() < 0.5
            rows.append({"key": key, "label": label, "is_true": is_true, "who": "test", "at": datetime.now(UTC)})
            if label in LABELS:
                self.corrections.setdefault(key, {})[label] = is_true
        self.site.warehouse.append_rows("corrections", rows)

    def change(self) -> None:
        """Change, add, remove and bring back some companies."""
        others = tiny_companies(400, seed=self.draw.randrange(1000))
        for key in self.draw.sample(sorted(self.companies), 3):
            self.companies[key] = {**self.draw.choice(others), "key": key}
        for key in self.draw.sample(sorted(self.companies), 2):
            self.gone[key] = self.companies.pop(key)
        if self.gone and self.draw.random() < 0.5:
            key = self.draw.choice(sorted(self.gone))
            self.companies[key] = self.gone.pop(key)
        fresh = {**self.draw.choice(others), "key": f"new-{self.draw.randrange(10**6)}"}
        self.companies[fresh["key"]] = fresh
        self.write()

    def expect(self) -> Moves:
        """Work out who enters and leaves which label, and why."""
        after, moves = self._shown_now(), {}
        models = (self.champion_before or self.champion, self.champion)
        thresholds = [{one.name: one.threshold for one in self._loaded(model)[0].manifest.labels} for model in models]
        for key in self.shown.keys() | after.keys():
            sides = old, new = self.shown.get(key), after.get(key)
            before, now = (one.labels if one else frozenset() for one in sides)
            for label in before ^ now:
                numbers = [one and one.probabilities[label] for one in sides] + [each[label] for each in thresholds]
                moves[key, label] = Move(label in now, _reason(old, new, label), *models, self.version, numbers)
        self.shown, self.champion_before = after, self.champion
        return moves

    def _shown_now(self) -> dict[str, Shown]:
        artifact, scorer = self._loaded(self.champion)
        keys = sorted(self.companies)
        texts = [TEMPLATE.format(**self.companies[key]) for key in keys]
        found = {}
        for key, text, scored in zip(keys, texts, scorer.score(texts), strict=True):
            said = self.corrections.get(key, {})
            labels, probabilities = set(), {}
            for one, logit in zip(artifact.manifest.labels, scored.logits, strict=True):
                probability = np.float32(1 / (1 + np.exp(-(one.scale * float(logit) + one.offset))))
                probabilities[one.name] = float(probability)
                if said.get(one.name, probability >= np.float32(one.threshold)):
                    labels.add(one.name)
            found[key] = Shown(text, artifact.logits_id, frozenset(labels), dict(said), probabilities)
        return found

    def _loaded(self, model_id: str) -> tuple[Artifact, Scorer]:
        if model_id not in self.scorers:
            artifact = load_artifact(registry.find(self.site.warehouse, model_id=model_id)["location"])
            backbone = resolve(artifact.manifest.backbone.name).load()
            self.scorers[model_id] = (artifact, Scorer.from_artifact(artifact, *backbone))
        return self.scorers[model_id]


def _reason(old: Shown | None, new: Shown | None, label: str) -> str:
    """Say why a company moved, as the analyst's page explains it."""
    if old is None:
        return "new"
    if new is None:
        return "removed"
    if old.said.get(label) != new.said.get(label):
        return "correction"
    if old.text != new.text:
        return "text"
    return "model" if old.logits_of != new.logits_of else "threshold"


@pytest.fixture
def month(warehouse: Warehouse, tmp_path: Path) -> Month:
    made = Month(Site(warehouse, tmp_path))
    made.companies = {one["key"]: one for one in tiny_companies(N_COMPANIES)}
    made.write()
    return made


@pytest.mark.long
def test_every_entry_and_exit_has_its_reason(month: Month) -> None:
    site, models = month.site, [month.site.model(0), month.site.model(1)]
    month.promote(models[0])
    expected: dict[str, Moves] = {}
    for night in range(N_NIGHTS):
        happens(month, night, models)
        result = site.night()
        assert result["outcome"] == "done"
        if moves := month.expect():
            expected[result["run_id"]] = moves
    assert {move.reason for moves in expected.values() for move in moves.values()} == {
        "new", "removed", "correction", "text", "model", "threshold",
    }  # fmt: skip
    _check(_found(site), expected)
    with_vacuum(site)
    _check(_found(site), expected)
    shown = {
        row["key"]: set(row["labels"]) for row in site.spark.table(site.warehouse.name("current_scores")).collect()
    }
    assert shown == {key: set(one.labels) for key, one in month.shown.items()}
    for label in LABELS:
        screen = site.spark.sql(f"SELECT key FROM {site.warehouse.name('screen')}('{label}', NULL)").collect()
        assert {row["key"] for row in screen} == {key for key, one in month.shown.items() if label in one.labels}


def happens(month: Month, night: int, models: list[str]) -> None:
    """Let something happen before a night, the first one aside."""
    if night % 4 == 1:
        month.correct()
    elif night % 4 == 2:
        month.judge_otherwise(night)
    elif night % 4 == 3:
        month.promote(models[(night // 4 + 1) % 2])
    elif night:
        month.change()
    if night and night % 3 == 0:
        month.change()
        month.correct()


def with_vacuum(site: Site) -> None:
    """Remove all that time travel would need."""
    setting = "spark.databricks.delta.retentionDurationCheck.enabled"
    site.spark.conf.set(setting, "false")
    try:
        for table in ("scores", "score_changes", "runs", "score_staging"):
            site.spark.sql(f"VACUUM {site.warehouse.name(table)} RETAIN 0 HOURS").collect()
    finally:
        site.spark.conf.unset(setting)


def _check(found: dict[str, Moves], expected: dict[str, Moves]) -> None:
    """Compare what is told of each run; logits of a text may differ in their last bits."""
    assert found.keys() == expected.keys()
    for run_id, moves in expected.items():
        assert found[run_id].keys() == moves.keys()
        for which, move in moves.items():
            one = found[run_id][which]
            assert one == move._replace(numbers=one.numbers)
            assert one.numbers == pytest.approx(move.numbers, abs=2e-5)


def _found(site: Site) -> dict[str, Moves]:
    """What ``why_changed`` says of each run; nothing may stand there twice."""
    rows = site.spark.table(site.warehouse.name("why_changed")).collect()
    found: dict[str, Moves] = {}
    numbers = ("old_probability", "new_probability", "old_threshold", "new_threshold")
    facts = ("entered", "reason", "previous_model_id", "model_id", "source_version")
    for row in rows:
        move = Move(*[row[name] for name in facts], [row[name] for name in numbers])
        found.setdefault(row["run_id"], {})[row["key"], row["label"]] = move
    assert sum(map(len, found.values())) == len(rows)
    return found
