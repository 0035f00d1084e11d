"""Kill many nights, and say how their reruns ended: ``python -m tests.faults.run --kills 200 --out FOLDER``.

Half of the kills are at named points, in turn, the others at random moments. What is done stands in
``FOLDER/rounds.jsonl``: the same command goes on after the last round, if what it kills is the same code.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from threading import Lock
from typing import Annotated

import typer

import tests.conftest  # noqa: F401  commands start as quickly as in tests
from benchmarks.code import code_of
from ptec_udf.log import logger
from tests.e2e.processes import ROOT
from tests.faults.driver import Driver
from tests.faults.points import AT_RANDOM, IN_ONE_PROCESS, ON_EXECUTORS, POINTS, STEPS, Point, at_random
from tests.faults.rounds import Round, Undisturbed, first_hit
from tests.faults.site import FaultSite

MOST_TRIES = 3
_BY_COMMAND = 8  # one of four random rounds
_ROUNDS_OF_A_DRIVER = 20  # Spark keeps something of each table that is put back, until its memory is full

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
    record = Record(out / "rounds.jsonl", f"{code_of(ROOT / 'ptec_udf')} by {code_of(ROOT / 'tests' / 'faults')}")
    left = iter(sorted(set(range(kills)) - record.rounds.keys()))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(sites) as pool:
        folders = [Path(folder, f"{number}") for number in range(sites)]
        for done in [pool.submit(_kill, each, left, record, seed) for each in folders]:
            done.result()
    lines = table_of(list(record.rounds.values()))
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    typer.echo("\n".join(lines))
    missed = kills - len(record.rounds)
    if missed > 0:
        logger.info(f"{missed} nights could not be killed; the same command tries them again")
    raise SystemExit(0 if missed <= 0 and all(one.passed for one in record.rounds.values()) else 1)


class Record:
    """What rounds came to, by their numbers, in a file that is read by the next call; those of other code go."""

    def __init__(self, file: Path, code: str) -> None:
        """Read what is there."""
        self._file, self._code, self._lock = file, code, Lock()
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        rounds = [line for line in map(json.loads, lines) if line.pop("code", None) == code]
        self.rounds = {found.pop("at"): Round(**found) for found in rounds}

    def add(self, at: int, found: Round) -> None:
        """Write a round down."""
        with self._lock:
            self.rounds[at] = found
            lines = [{"at": at, "code": self._code, **asdict(one)} for at, one in sorted(self.rounds.items())]
            part = self._file.with_suffix(".part")
            part.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
            part.rename(self._file)
        logger.info(f"round {at + 1}, the {len(self.rounds)}th to end: {found}")


def _kill(folder: Path, left: Iterator[int], record: Record, seed: int) -> None:
    """Run rounds on a site of their own until none is left."""
    folder.mkdir()
    site = FaultSite.prepare(folder / "site")
    driver = Driver.start(site, folder / "driver")
    undisturbed = {master: Undisturbed.of(site, master) for master in (IN_ONE_PROCESS, ON_EXECUTORS)}
    driver.wait()
    for done, at in enumerate(left):  # whoever is free takes the next one
        if driver.process.poll() is not None or (done and done % _ROUNDS_OF_A_DRIVER == 0):
            driver.close()
            site.restore()
            driver = Driver.start(site, folder / f"driver-{done}")
            driver.wait()
        found = _hit(site, driver, undisturbed, at, seed)
        if found.killed or not found.is_right:  # else it is left to the next call
            record.add(at, found)
    driver.close()


def _hit(site: FaultSite, driver: Driver, undisturbed: Mapping[str, Undisturbed], at: int, seed: int) -> Round:
    """Run a round; where its night had ended before the moment came, run it again with another moment."""
    seconds = undisturbed[IN_ONE_PROCESS].seconds
    points = [point_of(at, f"{seed}-{attempt}", seconds) for attempt in range(MOST_TRIES)]
    return first_hit(site, driver, points, undisturbed[points[0].master])


def point_of(at: int, seed: str, seconds: float) -> Point:
    """Choose the point of a round: the same in each call."""
    if at % 2:
        # A command of its own takes as long to start as the driver's whole night does.
        return at_random(random.Random(f"{seed}-{at}"), seconds, again_by_command=at % _BY_COMMAND == 1)
    cycle, point = divmod(at // 2, len(POINTS))
    return replace(POINTS[point], again_by_command=cycle % 2 == 0)


def table_of(rounds: Sequence[Round]) -> list[str]:
    """Lay rounds out as Markdown, a line for each point and how far its nights had come."""
    lines = [
        "| killed | how far the night was | rounds | night went on | texts in staging, mean | rerun ended well | "
        "scored again | equal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    order = [*(point.name for point in POINTS), AT_RANDOM]
    alike: dict[tuple[str, str], list[Round]] = {}
    for one in sorted(rounds, key=lambda one: (order.index(one.point), STEPS.index(one.step))):
        alike.setdefault((one.point, one.step), []).append(one)
    for (point, step), found in alike.items():
        staged = sum(one.staged for one in found) / len(found)
        names = ("survived", "ended_well", "rescored", "equal")
        survived, *counts = [str(sum(getattr(one, name) for one in found)) for name in names]
        lines.append(f"| {' | '.join([point, step, str(len(found)), survived, f'{staged:.0f}', *counts])} |")
    lines.append(f"| all | | {len(rounds)} | | | | | {sum(one.equal for one in rounds)} |")
    return lines


if __name__ == "__main__":
    app()
