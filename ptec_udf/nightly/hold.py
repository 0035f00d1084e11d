"""One run at a time writes the scores of a model, or tells what an alias shows.

A run takes a hold of both, keeps it up, and gives it back. Of two nights of an alias, which a promotion may give two
models, each would else compare with the same night before them, and tell some moves twice.

Within a process a set of names is enough, and an embedded warehouse takes one process. On a metastore of the site a
hold is a row of the table ``holds``, which of two at once only one can write. One that is not kept up ends by itself,
so that a killed run does not lock its successors out.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from ptec_udf.errors import HeldError
from ptec_udf.log import logger
from ptec_udf.warehouse.embedded import FOLDER_SETTING, tell_runs
from ptec_udf.warehouse.remote import go_first
from ptec_udf.warehouse.tables import Warehouse

LEASE = timedelta(minutes=10)
"""So long a hold lasts after it was last kept up: a renewal may wait for a task slot, behind tasks that score.

Clocks of drivers must not differ by more.
"""

_SECONDS_BETWEEN_RENEWALS = 30.0
_SECONDS_BETWEEN_LOOKS = 5.0

_lock = threading.Lock()
_in_process: dict[tuple[str, str], str] = {}
"""Runs of this process, by the database and what they hold."""

_ALIAS = "alias "
"""Begins the name of what is held of an alias; of a model it is the model_id."""


class Hold:
    """A run's row in ``holds``."""

    def __init__(self, warehouse: Warehouse, name: str, run_id: str) -> None:
        """Name what is to be held, and the run; nothing is taken yet."""
        self._warehouse, self._name, self._run_id = warehouse, name, run_id
        self._holder = uuid.uuid4().hex
        self._since = datetime.now(UTC)

    def take(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Take the hold, also from a run that was killed, once that is sure.

        Raises:
            HeldError: when another run has it and keeps it up.
        """
        first: Row | None = None
        while (row := self._row()) is None or row["holder"] != self._holder:
            if row is None or row["until"] < time.time():
                self._put(row["holder"] if row is not None else None)
                continue
            if first is not None and row["until"] > first["until"]:
                raise _held(row["run_id"], self._name)
            if first is None:
                first = row
                logger.info(f"run {row['run_id']} holds {_told(self._name)}; waiting to see whether it is at work")
            sleep(_SECONDS_BETWEEN_LOOKS)

    def renew(self) -> None:
        """Keep the hold up.

        Raises:
            HeldError: when another run has taken it meanwhile, since this one was not heard of for too long.
        """
        self._put(self._holder)
        row = self._row()
        if row is None or row["holder"] != self._holder:
            raise HeldError(f"run {self._run_id} was not heard of for {LEASE}, and another one has taken its place")

    def give_back(self) -> None:
        """End the hold."""
        is_own = (F.col("model_id") == F.lit(self._name)) & (F.col("holder") == F.lit(self._holder))
        self._warehouse.delete("holds", is_own)

    def _row(self) -> Row | None:
        """Return run and holder, and until when, in seconds since 1970: local times come twice where clocks go back."""
        of_this = self._warehouse.read("holds").where(F.col("model_id") == self._name)
        return of_this.select("run_id", "holder", (F.unix_micros("until") / 1e6).alias("until")).first()

    def _put(self, expected: str | None) -> None:
        """Write this hold in the place of the expected one; where another one is, nothing changes."""
        row = {
            "model_id": self._name,
            "run_id": self._run_id,
            "holder": self._holder,
            "since": self._since,
            "until": datetime.now(UTC) + LEASE,
        }
        put_hold(self._warehouse, row, expected)


def put_hold(warehouse: Warehouse, row: dict[str, Any], expected: str | None) -> None:
    """Write a row of ``holds``: over that of its model with the expected holder; None: if there is none."""
    old = partial(warehouse.old, "holds")
    replaced = None if expected is None else old("holder") == F.lit(expected)
    warehouse.put_row("holds", row, old("model_id") == F.lit(row["model_id"]), replaced)


@contextmanager
def held(warehouse: Warehouse, model_id: str, run_id: str, alias: str | None = None) -> Iterator[Callable[[], None]]:
    """Hold the scores of a model while the block runs, and an alias, if one is given.

    Yields:
        What is to be called right before scores are written: it raises HeldError if a hold is lost.

    Raises:
        HeldError: when another run has a hold.
    """
    names = [f"{_ALIAS}{alias}", model_id] if alias else [model_id]
    folder = warehouse.spark.conf.get(FOLDER_SETTING, None)
    with ExitStack() as stack:
        holds = []
        for name in names:
            stack.enter_context(_held_in_process(warehouse.database, name, run_id, folder))
            if not folder:
                holds.append(stack.enter_context(_held_in_table(warehouse.spark, Hold(warehouse, name, run_id))))

        def still_held() -> None:
            for hold in holds:
                hold.renew()

        yield still_held


@contextmanager
def _held_in_process(database: str, name: str, run_id: str, folder: str | None) -> Iterator[None]:
    """Hold something among this process's threads, and tell others, if there is a folder for them, that it is held."""

    def tell() -> None:
        if folder:
            tell_runs(folder, _in_process.values())

    with _lock:
        if other := _in_process.get((database, name)):
            raise _held(other, name)
        _in_process[database, name] = run_id
        tell()
    try:
        yield
    finally:
        with _lock:
            del _in_process[database, name]
            tell()


@contextmanager
def _held_in_table(spark: SparkSession, hold: Hold) -> Iterator[Hold]:
    """Hold scores among processes."""
    hold.take()
    ended = threading.Event()
    thread = threading.Thread(target=_keep_up, args=(spark, hold, ended), daemon=True)
    thread.start()
    try:
        yield hold
    finally:
        ended.set()
        thread.join()
        with suppress(Exception):  # Spark may be what failed; the hold then ends by itself
            hold.give_back()


def _keep_up(spark: SparkSession, hold: Hold, ended: threading.Event) -> None:
    """Renew a hold from time to time; whoever writes finds out whether it is lost."""
    go_first(spark, "ptec-hold")  # or a renewal would wait for all tasks that score
    while not ended.wait(_SECONDS_BETWEEN_RENEWALS):
        with suppress(Exception):
            hold.renew()


def _held(run_id: str, name: str) -> HeldError:
    """Name the run that has the hold."""
    return HeldError(f"run {run_id} holds {_told(name)}; start again when it has ended")


def _told(name: str) -> str:
    return name if name.startswith(_ALIAS) else f"the scores of model {name[:12]}"
