"""Kill many nights, and say how their reruns ended: ``python -m tests.faults.run --kills 200 --out FOLDER``.

Half of the kills are at named points, in turn, the others at random moments. What is done stands in
``FOLDER/rounds.jsonl``: the same command goes on after the last round.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import typer

import tests.conftest  # noqa: F401  commands start as quickly as in tests
from ptec_udf.progress import say
from tests.faults.driver import Driver
from tests.faults.points import IN_ONE_PROCESS, POINTS, Point, at_random
from tests.faults.rounds import Round, run_round
from tests.faults.site import FaultSite

app = typer.Typer(add_completion=False)


@app.command()
def kill(
    out: Annotated[Path, typer.Option(help="Folder of rounds.jsonl and table.md.")],
    kills: Annotated[int, typer.Option(min=1, help="Number of rounds, those of earlier calls included.")] = 200,
    sites: Annotated[int, typer.Option(min=1, help="Warehouses on which rounds run side by side.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the random moments.")] = 0,
) -> None:
    """Kill nights until there are so many rounds; exit code 1 if one of them lost, doubled or repeated anything."""
    out.mkdir(parents=True, exist_ok=True)
    record = Record(out / "rounds.jsonl")
    left = iter(sorted(set(range(kills)) - record.rounds.keys()))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(sites) as pool:
        folders = [Path(folder, f"{number}") for number in range(sites)]
        for done in [pool.submit(_kill, each, left, record, seed) for each in folders]:
            done.result()
    lines = table_of(list(record.rounds.values()))
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    typer.echo("\n".join(lines))
    raise SystemExit(0 if all(one.passed for one in record.rounds.values()) else 1)


class Record:
    """What rounds came to, by their numbers, in a file that is read by the next call."""

    def __init__(self, file: Path) -> None:
        """Read what is there."""
        self._file, self._lock = file, Lock()
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self.rounds = {found.pop("at"): Round(**found) for found in map(json.loads, lines)}

    def add(self, at: int, found: Round) -> None:
        """Write a round down."""
        with self._lock:
            self.rounds[at] = found
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"at": at, **asdict(found)}) + "\n")
        say(f"round {at + 1}, the {len(self.rounds)}th to end: {found}")


def _kill(folder: Path, left: Iterator[int], record: Record, seed: int) -> None:
    """Run rounds on a site of their own until none is left."""
    folder.mkdir()
    site = FaultSite.prepare(folder / "site")
    driver = Driver.start(site, folder / "driver")
    undisturbed, seconds = _undisturbed(site)
    driver.wait()
    for at in left:  # whoever is free takes the next one
        point = point_of(at, seed, seconds)
        record.add(at, run_round(site, driver, point, undisturbed[point.master]))
    driver.close()


def _undisturbed(site: FaultSite) -> tuple[dict[str, Any], float]:
    """Return the tables of an undisturbed night by its master, and the seconds that one takes in one process."""
    tables, seconds = {}, {}
    for master in sorted({point.master for point in POINTS}):
        site.restore()
        begun = time.monotonic()
        site.night(master)
        tables[master], seconds[master] = site.tables(), time.monotonic() - begun
    return tables, seconds[IN_ONE_PROCESS]


def point_of(at: int, seed: int, seconds: float) -> Point:
    """Choose the point of a round: the same in each call."""
    if at % 2:
        return at_random(random.Random(f"{seed}-{at}"), seconds)
    return POINTS[at // 2 % len(POINTS)]


def table_of(rounds: Sequence[Round]) -> list[str]:
    """Lay rounds out as Markdown, a line for each point."""
    lines = [
        "| killed | rounds | night went on | night had ended | texts in staging, mean | scored again | equal |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(one.point for one in rounds):
        of_point = [one for one in rounds if one.point == name]
        counts = [sum(one.survived for one in of_point), sum(not one.killed for one in of_point)]
        staged = sum(one.staged for one in of_point) / len(of_point)
        ends = [sum(one.rescored for one in of_point), sum(one.equal for one in of_point)]
        lines.append(f"| {name} | {len(of_point)} | {counts[0]} | {counts[1]} | {staged:.0f} | {ends[0]} | {ends[1]} |")
    lines.append(f"| all | {len(rounds)} | | | | | {sum(one.equal for one in rounds)} |")
    return lines


if __name__ == "__main__":
    app()
