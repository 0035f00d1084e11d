"""A warehouse on disk that is restored before each round, and what two runs must agree in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deltalake
import yaml

from tests.faults.consistency import find_anomalies
from tests.prepare import CONFIG, ENGINE
from tests.processes import ROOT, TIMEOUT_S, environment, n_commits, ptec, result_of, table_rows
from tests.quick import QUICK

TABLES = ("scores", "score_changes", "score_staging", "aliases", "corrections")
_OF_THE_RUN = ("scored_at", "changed_at", "run_id")


@dataclass(frozen=True)
class FaultSite:
    """A folder with warehouse, source, champion and site file, and a copy of the warehouse."""

    folder: Path

    @classmethod
    def prepare(cls, folder: Path, n_companies: int, n_models: int = 1, n_before: int = 0) -> FaultSite:
        """Make one, in a process of its own."""
        numbers = map(str, (n_companies, n_models, n_before))
        command = [sys.executable, "-m", "tests.prepare", str(folder), *numbers]
        done = subprocess.run(command, cwd=ROOT, env=environment(), timeout=TIMEOUT_S, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return cls.of_warehouse(folder)

    @classmethod
    def of_warehouse(cls, folder: Path) -> FaultSite:
        """Make one of a folder that contains ``warehouse``, with the tables in database ``ptec``."""
        where = {"folder": str(folder / "warehouse"), "spark": QUICK}
        settings = {"warehouse": where, "source": {"table": "ptec.companies", "key": "key"}, "engine": ENGINE}
        (folder / CONFIG).write_text(yaml.safe_dump(settings), encoding="utf-8")
        shutil.copytree(folder / "warehouse", folder / "before")
        return cls(folder)

    def restore(self) -> None:
        """Put the warehouse back."""
        shutil.rmtree(self.folder / "warehouse")
        shutil.copytree(self.folder / "before", self.folder / "warehouse")

    def command(self, *overrides: str) -> tuple[str, ...]:
        """Return the arguments of a run."""
        sets = [part for override in overrides for part in ("--set", override)]
        return ("score", "--config", CONFIG, *sets, "--json")

    def run(self, *overrides: str) -> dict[str, Any]:
        """Run the nightly command to its end and return its result."""
        return result_of(ptec(*self.command(*overrides), cwd=self.folder))

    def table(self, name: str, warehouse: str = "warehouse") -> Path:
        """Folder of a table."""
        return self.folder / warehouse / "ptec" / name

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Rows of a table, read without Spark."""
        return table_rows(self.table(name), ())

    def sources(self) -> dict[int, dict[str, tuple[str, str]]]:
        """Name and about of the source's companies by key, for every version."""
        newest = deltalake.DeltaTable(self.table("companies")).version()
        found = {}
        for version in range(newest + 1):
            rows = deltalake.DeltaTable(self.table("companies"), version=version).to_pyarrow_table().to_pylist()
            found[version] = {row["key"]: (row["name"], row["about"]) for row in rows}
        return found

    def anomalies(self) -> list[str]:
        """List what is wrong with the tables, for every model; nothing in consistent ones."""
        tables = {name: self.rows(name) for name in ("scores", "score_changes", "runs")}
        models = sorted({row["model_id"] for row in tables["scores"]})
        return [one for model_id in models for one in find_anomalies(tables, model_id, self.sources())]

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """What an undisturbed run and a killed one with its rerun must agree in: all but times and run ids."""
        found = {name: table_rows(self.table(name), _OF_THE_RUN) for name in TABLES}
        facts = ("outcome", "model_id", "alias", "source_version", "counts")
        done = [row for row in self.rows("runs") if row["outcome"] == "done"]
        return found | {"runs": sorted(({name: row[name] for name in facts} for row in done), key=repr)}

    def commits(self, name: str) -> int:
        """Number of commits of a table since the site was made."""
        return n_commits(self.table(name)) - n_commits(self.table(name, "before"))

    def has_new_file(self, name: str) -> bool:
        """Whether a data file was written since the site was made, committed or not."""
        table, before = self.table(name), self.table(name, "before")
        return any(not (before / file.relative_to(table)).exists() for file in table.rglob("*.parquet"))

    def n_staged(self) -> int:
        """Number of rows written to staging since the site was made, also those that were removed again."""
        table, before = self.table("score_staging"), self.table("score_staging", "before")
        logs = [file for file in table.glob("_delta_log/*.json") if not (before / "_delta_log" / file.name).exists()]
        total = 0
        for log in logs:
            actions = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
            if any(action.get("commitInfo", {}).get("operation") == "WRITE" for action in actions):
                total += sum(json.loads(one["add"]["stats"])["numRecords"] for one in actions if "add" in one)
        return total
