"""Kill many nights, and say how their reruns ended: ``python -m tests.faults.run --kills 200 --out FOLDER``.

Half of the kills are at named points, in turn, the others at random moments. What is done stands in
``FOLDER/rounds.jsonl``: the same command goes on after the last round.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
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
    seed: Annotated[int, typer.Option(help="Of the random moments.")] = 0,
) -> None:
    """Kill nights until there are so many rounds; exit code 1 if one of them lost, doubled or repeated anything."""
    out.mkdir(parents=True, exist_ok=True)
    record = out / "rounds.jsonl"
    rounds = _read(record)
    with tempfile.TemporaryDirectory() as folder:
        site = FaultSite.prepare(Path(folder) / "site")
        driver = Driver.start(site, Path(folder) / "driver")
        undisturbed, seconds = _undisturbed(site)
        driver.wait()
        for at in range(len(rounds), kills):
            point = _point(at, seed, seconds)
            rounds.append(run_round(site, driver, point, undisturbed[point.master]))
            with record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(rounds[-1])) + "\n")
            say(f"round {at + 1} of {kills}: {rounds[-1]}")
        driver.close()
    lines = _table(rounds)
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    typer.echo("\n".join(lines))
    raise SystemExit(0 if all(one.passed for one in rounds) else 1)


def _read(record: Path) -> list[Round]:
    if not record.exists():
        return []
    return [Round(**json.loads(line)) for line in record.read_text(encoding="utf-8").splitlines()]


def _undisturbed(site: FaultSite) -> tuple[dict[str, Any], float]:
    """Return the tables of an undisturbed night by its master, and the seconds that one takes in one process."""
    tables, seconds = {}, {}
    for master in sorted({point.master for point in POINTS}):
        site.restore()
        begun = time.monotonic()
        site.night(master)
        tables[master], seconds[master] = site.tables(), time.monotonic() - begun
    return tables, seconds[IN_ONE_PROCESS]


def _point(at: int, seed: int, seconds: float) -> Point:
    """Choose the point of a round: the same in each call."""
    if at % 2:
        return at_random(random.Random(f"{seed}-{at}"), seconds)
    return POINTS[at // 2 % len(POINTS)]


def _table(rounds: Sequence[Round]) -> list[str]:
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
