"""Runs at the same time, in four processes on the same tables: ``python -m tests.faults.at_once --rounds 20``.

Before each round the source changes; in every second round it changes once more while the runs are at work. The tables
must be those of runs that came one after the other.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import deltalake
import pyarrow as pa
import typer

import tests.conftest  # noqa: F401  commands start as quickly as in tests
from ptec_udf.log import logger
from tests.faults.kills import start
from tests.faults.site import FaultSite
from tests.processes import TIMEOUT_S
from tests.spark.support import RETRY_ERRORS, SMALL_COMMITS

N_COMPANIES = 120
N_RUNS = 4


@dataclass
class Rounds:
    """A site with two models, and its source as it is now."""

    site: FaultSite
    draw: random.Random
    companies: dict[str, tuple[str, str]] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    n: int = 0

    @classmethod
    def prepare(cls, folder: Path, seed: int = 0) -> Rounds:
        """Make the site."""
        site = FaultSite.prepare(folder, N_COMPANIES, n_models=2)
        made = cls(site, random.Random(seed))
        made.companies = {row["key"]: (row["name"], row["about"]) for row in site.rows("companies")}
        made.models = [row["model_id"] for row in sorted(site.rows("models"), key=lambda row: row["registered"])]
        return made

    def run(self) -> tuple[list[int], list[str]]:
        """Let four runs meet; return their exit codes, and what is wrong with the tables afterwards."""
        self.change_source()
        other = f"model.id={self.models[1]}"
        overrides = [
            [(), (), (), ()],
            [(), (), (other,), (other,)],
            [(), (other,), (other, "engine.dtype=bfloat16"), (RETRY_ERRORS,)],
        ][self.n % 3]
        runs = [start(self.site, *SMALL_COMMITS, *mine) for mine in overrides]
        if self.n % 2:
            time.sleep(self.draw.uniform(0.0, 20.0))
            self.change_source()
        codes = [run.wait(TIMEOUT_S) for run in runs]
        self.n += 1
        found = self.site.anomalies()
        if left := self.site.rows("score_staging"):
            found.append(f"{len(left)} rows left in score_staging")
        return codes, found

    def change_source(self) -> None:
        """Write a version with some changed, removed and new companies."""
        keys = sorted(self.companies)
        for key in self.draw.sample(keys, 6):
            self.companies[key] = (self.companies[key][0], f"changed in round {self.n}, {self.draw.random()}")
        for key in self.draw.sample(keys, 2):
            del self.companies[key]
        for at in range(3):
            self.companies[f"new-{self.n}-{self.draw.random()}"] = ("new", f"a company of round {self.n}, {at}")
        rows = [{"key": key, "name": name, "about": about} for key, (name, about) in self.companies.items()]
        deltalake.write_deltalake(self.site.table("companies"), pa.Table.from_pylist(rows), mode="overwrite")


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the changes in the source.")] = 0,
) -> None:
    """Run the rounds; exit code 1 if a run failed or left something wrong."""
    wrong: list[str] = []
    ended: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        made = Rounds.prepare(Path(folder) / "site", seed)
        for at in range(rounds):
            codes, found = made.run()
            ended.update(codes)
            wrong += [f"round {at + 1}: {one}" for one in found]
            logger.info(f"round {at + 1} of {rounds}: exit codes {codes}, {len(found)} anomalies")
    summary = f"{rounds} rounds of {N_RUNS} runs, exit codes {dict(ended)}, {len(wrong)} anomalies"
    typer.echo("\n".join([summary, *wrong]))
    raise SystemExit(1 if wrong or set(ended) != {0} else 0)


if __name__ == "__main__":
    typer.run(main)
