"""Kill many runs and compare their reruns with an undisturbed run: ``python -m tests.faults.run --kills 100``.

Even rounds kill at a stage in turn, odd ones at a random moment. The killed run is a new process; its rerun takes place
in a session that is kept for all rounds. ``--out FILE`` gets one JSON line per round.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pyspark.sql import SparkSession

import tests.conftest  # noqa: F401  commands start as quickly as in tests
from ptec_udf.config import ScoreConfig
from ptec_udf.errors import PtecError
from ptec_udf.log import logger
from ptec_udf.nightly.run import score
from ptec_udf.warehouse.session import build_session
from tests.faults.kills import (
    STAGES,
    Target,
    driver_jvm,
    driver_python,
    everything,
    executor,
    kill_when,
    start,
    workers,
)
from tests.faults.site import FaultSite
from tests.prepare import CONFIG
from tests.processes import TIMEOUT_S
from tests.site import load_config
from tests.spark.support import SMALL_COMMITS, clear_log_cache
from tests.tolerance import distance

TARGETS = (everything, driver_python, driver_jvm)
MAX_DISTANCE = 5e-5  # of numbers, as the README promises: a rerun scores in other batches
ON_EXECUTORS = "warehouse.master=local-cluster[2,1,1024]"
POINTS: tuple[tuple[str, Target, tuple[str, ...]], ...] = (
    *((stage, target, ()) for stage in STAGES for target in TARGETS),
    ("first commit staged", workers, ()),
    ("first commit staged", executor, (ON_EXECUTORS,)),
)


@dataclass(frozen=True)
class Round:
    """What a round came to: it passes where something was killed, no table differs and no text is scored twice.

    ``distance`` is the largest finite difference of two numbers in the tables.
    """

    point: str
    killed: int
    outcome: str
    different: list[str]
    scored_twice: bool
    distance: float

    @property
    def passed(self) -> bool:
        return (
            self.killed > 0
            and self.outcome in ("done", "nothing_to_do")
            and not self.different
            and not self.scored_twice
        )


@dataclass(frozen=True)
class Undisturbed:
    """Tables and number of staged texts of a run that nothing disturbs, and its seconds from the first text on."""

    tables: dict[str, Any]
    n_staged: int
    seconds: float


def undisturbed(site: FaultSite) -> Undisturbed:
    """Run once, and restore the site."""
    run, begun = start(site, *SMALL_COMMITS), time.monotonic()
    while run.poll() is None and not STAGES["scoring"](site):
        begun = time.monotonic()
        time.sleep(0.02)
    assert run.wait(TIMEOUT_S) == 0, "the undisturbed run failed"
    found = Undisturbed(site.tables(), site.n_staged(), time.monotonic() - begun)
    site.restore()
    return found


def rerun(site: FaultSite, spark: SparkSession) -> str:
    """Run again in this process; return the outcome."""
    clear_log_cache(spark)
    try:
        return str(score(spark, load_config(ScoreConfig, site.folder / CONFIG, SMALL_COMMITS))["outcome"])
    except PtecError as error:
        logger.warning(f"the rerun failed: {error}")
        return "failed"


def run_round(site: FaultSite, spark: SparkSession, expected: Undisturbed, at: int, draw: random.Random) -> Round:
    """Kill a run, run again, compare, and restore the site."""
    if at % 2:
        name, target, overrides = "random", everything, ()
        after, begun = draw.uniform(0.0, expected.seconds), [0.0]

        def seen() -> bool:
            begun[0] = begun[0] or (time.monotonic() if STAGES["scoring"](site) else 0.0)
            return bool(begun[0]) and time.monotonic() - begun[0] >= after
    else:
        stage, target, overrides = POINTS[at // 2 % len(POINTS)]
        name = f"{stage}, {target.__name__}"

        def seen() -> bool:
            return STAGES[stage](site)

    n_killed = kill_when(site, seen, target, *SMALL_COMMITS, *overrides)
    outcome = rerun(site, spark)
    # The JVM that outlives its driver may commit a slice that the rerun has begun to score.
    twice = site.n_staged() > expected.n_staged and target is not driver_python
    tables = site.tables()
    distances = {table: distance(tables[table], expected.tables[table]) for table in tables}
    different = [table for table, apart in distances.items() if apart > MAX_DISTANCE]
    most = max((apart for apart in distances.values() if apart < math.inf), default=0.0)
    found = Round(name, n_killed, outcome, different, twice, most)
    site.restore()
    return found


def main(
    kills: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 100,
    first: Annotated[int, typer.Option(min=0, help="Rounds to leave out, which an earlier call made.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the random moments.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File that gets a JSON line per round.")] = None,
) -> None:
    """Run the rounds; exit code 1 if one of them lost, doubled or repeated anything."""
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        site = FaultSite.prepare(Path(folder) / "site", n_companies=120, n_before=60)
        expected = undisturbed(site)
        spark = build_session(load_config(ScoreConfig, site.folder / CONFIG).warehouse, "reruns")
        for at in range(first, kills):
            found = run_round(site, spark, expected, at, random.Random(f"{seed}-{at}"))
            rounds.append(found)
            logger.info(f"round {at + 1} of {kills}: {'passed' if found.passed else 'FAILED'} {found}")
            if out:
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(found) | {"passed": found.passed}) + "\n")
    points = Counter((one.point, one.passed) for one in rounds)
    for (point, passed), n in sorted(points.items()):
        typer.echo(f"{point}: {n} {'passed' if passed else 'not passed'}")
    missed = [one for one in rounds if not one.killed]  # the run had ended before the moment came
    wrong = [one for one in rounds if one.killed and not one.passed]
    typer.echo(f"{len(rounds)} rounds, {len(missed)} without a kill, {len(wrong)} wrong")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    typer.run(main)
