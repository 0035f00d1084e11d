"""A prepared warehouse that is put back before each round, and what two nights must agree in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.processes import ROOT, TIMEOUT_S, n_commits, ptec, result_of, table_rows
from tests.quick import QUICK

N_COMPANIES, N_BEFORE = 400, 100
"""Companies now, beside eleven whose texts are those of others; and those that have had a night, ten beside them."""

_TIMES = ("scored_at", "changed_at", "started", "ended", "rows_per_second", "measured_at")
# Sums over tasks, which end in any order: their last bits differ.
_SUMS = ("mean", "corrected_expected")
# Of a rerun they say how it came to the same: where Spark ran, what it still had to score, and that what was corrected
# after a MERGE is left to the next night.
_OF_THE_WAY = ("config", "reused", "dtype", "corrections_version")
_ALL = ("scores", "score_changes", "score_staging", "holds", "aliases", "corrections")

_EVENTS = {"spark.eventLog.enabled": True, "spark.eventLog.compress": False, "spark.eventLog.rolling.enabled": False}

# How far a night has come.
NOTHING, STAGED, EXPLAINED, MERGED, ENDED = "nothing yet", "texts staged", "changes written", "merged", "row written"


@dataclass(frozen=True)
class FaultSite:
    """A folder with warehouse, source, champion and ``score.yaml``, and a copy of the warehouse beside."""

    folder: Path

    @classmethod
    def prepare(
        cls, folder: Path, n_companies: int = N_COMPANIES, n_models: int = 1, n_before: int = N_BEFORE
    ) -> FaultSite:
        """Make one, in a process of its own."""
        numbers = map(str, (n_companies, n_models, n_before))
        command = [sys.executable, "-m", "tests.e2e.prepare", str(folder), *numbers]
        subprocess.run(command, cwd=ROOT, check=True, timeout=TIMEOUT_S, capture_output=True)
        made = cls(folder)
        settings = yaml.safe_load(made.config.read_text(encoding="utf-8"))
        settings["warehouse"]["spark"] = {**QUICK, **_EVENTS, "spark.eventLog.dir": str(folder / "events")}
        (folder / "events").mkdir()
        made.config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        shutil.copytree(folder / "warehouse", folder / "before")
        return made

    @property
    def config(self) -> Path:
        """Settings of its nights."""
        return self.folder / "score.yaml"

    def restore(self) -> None:
        """Put the warehouse back, into the same place: the catalog holds absolute paths."""
        shutil.rmtree(self.folder / "warehouse")
        shutil.copytree(self.folder / "before", self.folder / "warehouse")
        for file in (self.folder / "events").iterdir():
            file.unlink()

    def table(self, name: str, warehouse: str = "warehouse") -> Path:
        """Folder of a table of ours."""
        return self.folder / warehouse / "tables" / "ptec.db" / name

    def commits(self, name: str) -> int:
        """Number of commits of a table since the site was made."""
        return n_commits(self.table(name)) - n_commits(self.table(name, "before"))

    def has_new_file(self, name: str) -> bool:
        """Whether a data file is there that was not when the site was made, whether or not a commit names it."""
        return any(
            not (self.table(name, "before") / file.relative_to(self.table(name))).exists()
            for file in self.table(name).rglob("*.parquet")
        )

    def how_far(self) -> str:
        """What the night has committed last."""
        steps = {ENDED: "runs", MERGED: "scores", EXPLAINED: "score_changes", STAGED: "score_staging"}
        return next((step for step, name in steps.items() if self.commits(name)), NOTHING)

    def staged(self) -> int:
        """Number of distinct texts in staging."""
        return len({row["text_hash"] for row in table_rows(self.table("score_staging"), ())})

    def n_staged(self) -> int:
        """Number of rows that were written to staging since the site was made, whatever was removed again."""
        before = self.table("score_staging", "before") / "_delta_log"
        log = self.table("score_staging") / "_delta_log"
        commits = [file for file in log.glob("*.json") if not (before / file.name).exists()]
        actions = [[json.loads(line) for line in file.read_text("utf-8").splitlines()] for file in commits]
        infos = [next(one["commitInfo"] for one in of_one if "commitInfo" in one) for of_one in actions]
        written = [of_one for of_one, info in zip(actions, infos, strict=True) if info["operation"] == "WRITE"]
        added = [one["add"] for of_one in written for one in of_one if "add" in one]
        return sum(json.loads(add["stats"])["numRecords"] for add in added)

    def n_failed_tasks(self) -> int:
        """Number of tasks that Spark says have failed in the nights of commands since the site was put back."""
        lines = [line for file in (self.folder / "events").iterdir() for line in file.read_text("utf-8").splitlines()]
        ends = [json.loads(line) for line in lines if line.startswith('{"Event":"SparkListenerTaskEnd"')]
        return sum(end["Task End Reason"]["Reason"] != "Success" for end in ends)

    def night(self, *overrides: str) -> dict[str, Any]:
        """Run a night of the command to its end and return its result."""
        return result_of(ptec(*score(*overrides), cwd=self.folder))

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """What an undisturbed night and a killed one with its rerun must agree in: all but times and vain runs."""
        tables = {name: table_rows(self.table(name), _TIMES) for name in _ALL}
        tables["drift"] = table_rows(self.table("drift"), (*_TIMES, *_SUMS))
        runs = table_rows(self.table("runs"), (*_TIMES, *_OF_THE_WAY))
        return tables | {"runs": [run for run in runs if run["outcome"] == "done"]}


def score(*overrides: str) -> tuple[str, ...]:
    """Return the arguments of a night."""
    sets = [part for override in overrides for part in ("--set", override)]
    return ("score", "--config", "score.yaml", *sets, "--json")
