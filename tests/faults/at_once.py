"""Nights at once, in four processes, on the same tables: ``python -m tests.faults.at_once --rounds 20 --out FOLDER``.

Before each round the source changes, in every second one also while the nights run. Whatever the four make of each
other, the tables must be those of nights that came one after the other, and what was refused must have named the run
that was in the way.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import deltalake
import pyarrow as pa
import typer

import tests.conftest  # noqa: F401  commands start as quickly as in tests
from benchmarks.code import code_of
from ptec_udf.log import logger
from ptec_udf.nightly.runs import DONE
from tests.e2e.processes import ROOT
from tests.faults.driver import Driver
from tests.faults.driver_process import FAILED, REFUSED
from tests.faults.site import FaultSite
from tests.tiny import TEMPLATE

N_DRIVERS = 4
N_COMPANIES = 120
SECONDS = 10.0
"""Within which the source changes once more after four nights have begun."""

OVERRIDES = ("engine.dtype=float32", "slice_texts=60")
RETRIED = "another writer was in the way"
WAITED = "waiting to see whether it is at work"

app = typer.Typer(add_completion=False)


Rows = list[dict[str, Any]]
Companies = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class State:
    """What stands after a round.

    Attributes:
        models: their ids, the champion's first.
        sources: name and text of companies, by version of the source.
        scores: rows of our table, as the others are.
    """

    models: list[str]
    sources: dict[int, Companies]
    scores: Rows
    runs: Rows
    changes: Rows
    holds: Rows
    staging: Rows
    drift: Rows


_NAMES_ANOTHER = re.compile(r"run [0-9a-f]{12}-\d+ holds (the scores of model|alias)")


@dataclass
class Site:
    """Shared tables, the drivers that score them, and the source as it stands.

    ``n_with_another`` are rounds in which a model had two nights with something to do.
    """

    tables: FaultSite
    models: list[str]
    drivers: list[Driver]
    companies: Companies
    draw: random.Random
    rounds: int = 0
    n_with_another: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    sources: dict[int, Companies] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, seed: int = 0) -> Site:
        """Make the tables and start the drivers."""
        tables = FaultSite.prepare(folder / "site", N_COMPANIES, n_models=2, n_before=0)
        drivers = [Driver.start(tables, folder / f"driver-{number}") for number in range(N_DRIVERS)]
        site = cls(tables, [], drivers, {}, random.Random(seed))
        site.models = [row["model_id"] for row in sorted(site.rows("models"), key=lambda row: row["registered"])]
        site.companies = {row["key"]: (row["name"], row["about"]) for row in site.rows("companies")}
        for driver in drivers:
            driver.wait()
        return site

    def rows(self, name: str) -> Rows:
        return deltalake.DeltaTable(self.tables.table(name)).to_pyarrow_table().to_pylist()

    def state(self) -> State:
        """Read what stands."""
        names = ("scores", "runs", "score_changes", "holds", "score_staging", "drift")
        return State(self.models, self.sources, *map(self.rows, names))

    def round(self) -> Rows:
        """Change the source, let all score at once, those that are refused once more, return how each night ended."""
        self.change_source()
        champion, other = [], [f"model.id={self.models[1]}"]
        orders = [
            [champion] * N_DRIVERS,
            [champion, champion, other, other],
            [champion, other, [f"shadows=[{self.models[1]}]"], ["retry_errors=true"]],
        ][self.rounds % 3]
        waiting = list(zip(self.drivers, orders, strict=True))
        found: Rows = []
        while waiting:
            for driver, overrides in waiting:
                driver.order([*OVERRIDES, *overrides])
            if self.rounds % 2 and not found:
                time.sleep(self.draw.uniform(0.0, SECONDS))
                self.change_source()
            answers = [driver.answer() for driver, _ in waiting]
            found += answers
            waiting = [one for one, answer in zip(waiting, answers, strict=True) if answer["outcome"] == REFUSED]
        self.rounds += 1
        done = Counter(one["model_id"] for one in found if one["outcome"] == DONE)
        self.n_with_another += any(n > 1 for n in done.values())
        self.outcomes.update(one["outcome"] for one in found)
        return found

    def change_source(self) -> None:
        """Write a version in which some companies have other texts, some are gone and some are new."""
        keys = sorted(self.companies)
        for key in self.draw.sample(keys, 6):
            self.companies[key] = (self.companies[key][0], f"changed in round {self.rounds}, {self.draw.random()}")
        for key in self.draw.sample(keys, 2):
            del self.companies[key]
        for at in range(3):
            self.companies[f"new-{len(self.sources)}-{at}"] = ("new", f"a company of round {self.rounds}, {at}")
        rows = [{"key": key, "name": name, "about": about} for key, (name, about) in self.companies.items()]
        table = self.tables.table("companies")
        deltalake.write_deltalake(table, pa.Table.from_pylist(rows), mode="overwrite")
        self.sources[deltalake.DeltaTable(table).version()] = dict(self.companies)

    def count(self, said: str) -> int:
        """Count how often drivers have said something: that a commit met another one, say."""
        return sum(driver.said().count(said) for driver in self.drivers)

    def close(self) -> None:
        """End the processes."""
        for driver in self.drivers:
            driver.close()


def anomalies(state: State, ended: Sequence[dict[str, Any]]) -> list[str]:
    """Say what is wrong with the tables after a round, and with what its nights said; nothing in a good one."""
    found = [one["error"] for one in ended if one["outcome"] == FAILED]
    refused = [one["error"] for one in ended if one["outcome"] == REFUSED]
    found += [f"no other run is named: {error}" for error in refused if not _NAMES_ANOTHER.match(error)]
    if not any(one["outcome"] == DONE for one in ended):
        found.append("no night was done")
    for model_id in state.models:
        found += [*_of_scores(state, model_id), *_of_changes(state, model_id)]
    done = Counter((row["run_id"]) for row in state.runs if row["outcome"] == DONE)
    found += [f"run {run_id} is done {n} times" for run_id, n in done.items() if n > 1]
    figures = Counter(tuple(row[name] for name in ("run_id", "population", "figure", "label")) for row in state.drift)
    found += [f"drift of run {figure[0]} stands {n} times" for figure, n in figures.items() if n > 1]
    found += [f"drift of run {run_id}, which is not done" for run_id in {figure[0] for figure in figures} - done.keys()]
    failed = [row for row in state.runs if row["outcome"] == FAILED]
    found += [f"run {row['run_id']}: {row['error']}" for row in failed if not _NAMES_ANOTHER.match(row["error"])]
    # What a champion's pass has scored for a shadow that is then refused is kept for the shadow's next run.
    kept = {(json.loads(row["config"]).get("shadow_of"), row["model_id"]) for row in failed}
    staging = [row for row in state.staging if (row["run_id"], row["model_id"]) not in kept]
    left = {"holds": state.holds, "score_staging": staging}
    return found + [f"{len(rows)} rows left in {name}" for name, rows in left.items() if rows]


def _of_scores(state: State, model_id: str) -> list[str]:
    """Compare a model's scores with the newest version of the source that a night of it was done with."""
    rows = [row for row in state.scores if row["model_id"] == model_id]
    keys = Counter(row["key"] for row in rows)
    found = [f"{key} stands {n} times under {model_id[:8]}" for key, n in keys.items() if n > 1]
    versions = [row["source_version"] for row in state.runs if row["outcome"] == DONE and row["model_id"] == model_id]
    if versions:
        hashes = {
            key: hashlib.sha256(TEMPLATE.format(name=name, about=about).encode()).hexdigest()
            for key, (name, about) in state.sources[max(versions)].items()
        }
        standing = {row["key"]: row["text_hash"] for row in rows if row["removed_in"] is None}
        if odd := standing.keys() ^ hashes.keys():
            found.append(f"{len(odd)} companies are lost or left over under {model_id[:8]}")
        stale = [key for key in standing.keys() & hashes.keys() if standing[key] != hashes[key]]
        found += [f"{key} stands with another text under {model_id[:8]}" for key in sorted(stale)]
    logits: dict[str, list[float]] = {}
    for row in rows:
        if row["logits"] is not None and logits.setdefault(row["text_hash"], row["logits"]) != row["logits"]:
            found.append(f"one text has two logits under {model_id[:8]}")
    return found


def _of_changes(state: State, model_id: str) -> list[str]:
    """Play a model's changes back: they must lead to the labels that stand, each step from where it was."""
    is_champion = model_id == state.models[0]  # of it those by its alias, which the others have none of
    done = [row for row in state.runs if row["outcome"] == DONE and row["model_id"] == model_id]
    ended = {row["run_id"]: row["ended"] for row in done if bool(row["alias"]) is is_champion}
    changes = [row for row in state.changes if row["run_id"] in ended]
    labels: dict[str, set[str]] = {}
    found = []
    for row in sorted(changes, key=lambda row: ended[row["run_id"]]):
        of_company = labels.setdefault(row["key"], set())
        if row["entered"] == (row["label"] in of_company):
            found.append(f"{row['key']} enters or leaves a label twice under {model_id[:8]}")
        (of_company.add if row["entered"] else of_company.discard)(row["label"])
    for row in state.scores:
        standing = set(row["labels"]) if row["removed_in"] is None else set()
        if row["model_id"] == model_id and standing != labels.get(row["key"], set()):
            found.append(f"{row['key']}: changes do not lead to its labels under {model_id[:8]}")
    return found


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="Folder of results.json.")],
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 20,
    seed: Annotated[int, typer.Option(help="Of what changes in the source.")] = 0,
) -> None:
    """Let four nights meet in each round; exit code 1 if any of them left something wrong."""
    out.mkdir(parents=True, exist_ok=True)
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        site = Site.open(Path(folder), seed)
        for at in range(rounds):
            ended = site.round()
            here = anomalies(site.state(), ended)
            wrong += [f"round {at + 1}: {one}" for one in here]
            logger.info(
                f"round {at + 1} of {rounds}: {dict(Counter(one['outcome'] for one in ended))}, {len(here)} anomalies"
            )
        if not site.n_with_another:
            wrong.append("in no round a model had two nights with something to do")
        result = {
            "code": code_of(ROOT / "ptec_udf"),
            "rounds": rounds,
            "nights": dict(sorted(site.outcomes.items())),
            "rounds_with_two_nights_of_a_model": site.n_with_another,
            "retried": site.count(RETRIED),
            "waited": site.count(WAITED),
            "anomalies": wrong,
        }
        site.close()
    (out / "results.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(result, indent=1))
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    app()
