"""Nights at once, in four processes, on the same tables: ``python -m tests.faults.at_once --rounds 20 --out FOLDER``.

Before each round the source changes. Whatever the four nights make of each other, the tables must be those of nights
that came one after the other, and what was refused must have named the run that was in the way.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import deltalake
import pyarrow as pa
import typer

import tests.conftest  # noqa: F401  commands start as quickly as in tests
from ptec_udf.progress import say
from tests.faults.driver import Driver
from tests.faults.driver_process import FAILED, REFUSED
from tests.faults.site import FaultSite

N_DRIVERS = 4
N_COMPANIES = 120
OVERRIDES = ("engine.dtype=float32", "slice_texts=60")
RETRIED = "another writer was in the way"

app = typer.Typer(add_completion=False)


@dataclass
class Site:
    """Shared tables, the drivers that score them, and the source as it stands."""

    tables: FaultSite
    models: list[str]
    drivers: list[Driver]
    companies: dict[str, tuple[str, str]]
    draw: random.Random
    rounds: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    @classmethod
    def open(cls, folder: Path, seed: int = 0) -> Site:
        """Make the tables and start the drivers."""
        tables = FaultSite.prepare(folder / "site", N_COMPANIES, n_models=2)
        drivers = [Driver.start(tables, folder / f"driver-{number}") for number in range(N_DRIVERS)]
        site = cls(tables, [], drivers, {}, random.Random(seed))
        site.models = [row["model_id"] for row in sorted(site.rows("models"), key=lambda row: row["registered"])]
        site.companies = {row["key"]: (row["name"], row["about"]) for row in site.rows("companies")}
        for driver in drivers:
            driver.wait()
        return site

    def rows(self, name: str) -> list[dict[str, Any]]:
        return deltalake.DeltaTable(self.tables.table(name)).to_pyarrow_table().to_pylist()

    def round(self) -> list[dict[str, Any]]:
        """Change the source, let all score at once, return how each ended."""
        self.change_source()
        champion, other = [], [f"model.id={self.models[1]}"]
        orders = [
            [champion] * N_DRIVERS,
            [champion, champion, other, other],
            [champion, other, [f"shadows=[{self.models[1]}]"], ["retry_errors=true"]],
        ][self.rounds % 3]
        for driver, overrides in zip(self.drivers, orders, strict=True):
            driver.order([*OVERRIDES, *overrides])
        found = [driver.answer() for driver in self.drivers]
        self.rounds += 1
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
            self.companies[f"new-{self.rounds}-{at}"] = ("new", f"a company of round {self.rounds}, {at}")
        rows = [{"key": key, "name": name, "about": about} for key, (name, about) in self.companies.items()]
        deltalake.write_deltalake(self.tables.table("companies"), pa.Table.from_pylist(rows), mode="overwrite")

    def retries(self) -> int:
        """Count commits that met another one and were tried again."""
        return sum(driver.said().count(RETRIED) for driver in self.drivers)

    def close(self) -> None:
        """End the processes."""
        for driver in self.drivers:
            driver.close()


def anomalies(site: Site, ended: Sequence[dict[str, Any]]) -> list[str]:
    """Say what is wrong with the tables after a round; nothing in a good one."""
    found = [one["error"] for one in ended if one["outcome"] == FAILED]
    found += [
        f"no run is named: {one['error']}" for one in ended if one["outcome"] == REFUSED and "run " not in one["error"]
    ]
    if not any(one["outcome"] == "done" for one in ended):
        found.append("no night was done")
    scores, runs = site.rows("scores"), site.rows("runs")
    for model_id in site.models:
        of_model = [row for row in scores if row["model_id"] == model_id]
        found += _of_scores(site, model_id, of_model, runs)
    done = Counter((row["run_id"]) for row in runs if row["outcome"] == "done")
    found += [f"run {run_id} is done {n} times" for run_id, n in done.items() if n > 1]
    found += _of_changes(site, [row for row in scores if row["model_id"] == site.models[0]])
    found += [f"{len(rows)} rows left in {name}" for name in ("holds", "score_staging") if (rows := site.rows(name))]
    return found


def _of_scores(site: Site, model_id: str, rows: list[dict[str, Any]], runs: list[dict[str, Any]]) -> list[str]:
    """Compare a model's scores with the source, if a night of this version has scored with it."""
    version = deltalake.DeltaTable(site.tables.table("companies")).version()
    keys = Counter(row["key"] for row in rows)
    found = [f"{key} stands {n} times under {model_id[:8]}" for key, n in keys.items() if n > 1]
    newest = [row for row in runs if row["model_id"] == model_id and row["source_version"] == version]
    if not any(row["outcome"] == "done" for row in newest):
        return found
    standing = {row["key"] for row in rows if row["removed_in"] is None}
    if standing != set(site.companies):
        found.append(f"{len(standing ^ set(site.companies))} companies are lost or left over under {model_id[:8]}")
    logits: dict[str, list[float]] = {}
    for row in rows:
        if row["logits"] is not None and logits.setdefault(row["text_hash"], row["logits"]) != row["logits"]:
            found.append(f"one text has two logits under {model_id[:8]}")
    return found


def _of_changes(site: Site, scores: list[dict[str, Any]]) -> list[str]:
    """Play the champion's changes back: they must lead to the labels that stand, each step from where it was."""
    ended = {row["run_id"]: row["ended"] for row in site.rows("runs") if row["outcome"] == "done" and row["alias"]}
    changes = [
        row for row in site.rows("score_changes") if row["run_id"] in ended and row["model_id"] == site.models[0]
    ]
    labels: dict[str, set[str]] = {}
    found = []
    for row in sorted(changes, key=lambda row: ended[row["run_id"]]):
        of_company = labels.setdefault(row["key"], set())
        if row["entered"] == (row["label"] in of_company):
            found.append(f"{row['key']} enters or leaves a label twice")
        (of_company.add if row["entered"] else of_company.discard)(row["label"])
    for row in scores:
        standing = set(row["labels"]) if row["removed_in"] is None else set()
        if standing != labels.get(row["key"], set()):
            found.append(f"{row['key']}: changes do not lead to its labels")
    return found


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="Folder of at_once.json.")],
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
            here = anomalies(site, ended)
            wrong += [f"round {at + 1}: {one}" for one in here]
            say(f"round {at + 1} of {rounds}: {dict(Counter(one['outcome'] for one in ended))}, {len(here)} anomalies")
        result = {"rounds": rounds, "nights": dict(site.outcomes), "retried": site.retries(), "anomalies": wrong}
        site.close()
    (out / "at_once.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(result, indent=1))
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    app()
