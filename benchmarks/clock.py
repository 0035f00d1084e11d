"""A clock that moves by days, for Python and Spark's JVM alike."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import time_machine

from ptec_udf.errors import ConfigError

# A day that goes by between two heartbeats is no sign of death. Python workers measure no time: their clock is the
# machine's, since the library breaks their sleep.
SETTINGS = {
    "spark.network.timeout": "1000d",
    "spark.executor.heartbeatInterval": "10s",
    "spark.executorEnv.LD_PRELOAD": "",
}


def find_library() -> Path | None:
    """Return the library that moves the JVM's clock, if it is installed."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@dataclass
class Clock:
    """The clock of this process and of a JVM that it starts.

    Attributes:
        file: through which the JVM reads the time; made.
        days: by which the clock is ahead.
        aged: files whose times have been set.
    """

    file: Path
    days: int = 0
    aged: set[Path] = field(default_factory=set)

    @contextmanager
    def move_java(self) -> Iterator[None]:
        """Give this clock to the JVM that starts in the block, by libfaketime.

        Raises:
            ConfigError: where the library is missing.
        """
        if (library := find_library()) is None:
            raise ConfigError("libfaketime is needed, which moves the clock of a process: apt install faketime")
        self._tell_java()
        environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # durations and waits stay real
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # with it, the JVM's own threads spin
            "NO_FAKE_STAT": "1",  # see set_ages
        }
        os.environ |= environment
        try:
            yield
        finally:
            for name in environment:
                del os.environ[name]

    @contextmanager
    def move_python(self) -> Iterator[None]:
        """Give this clock to this process."""
        with time_machine.travel(datetime.now(UTC), tick=True) as self._python:
            yield

    def next_day(self) -> None:
        """Move by a day."""
        self.days += 1
        self._tell_java()
        self._python.shift(timedelta(days=1))

    def _tell_java(self) -> None:
        self.file.write_text(f"+{self.days}d", encoding="utf-8")

    def set_ages(self, folder: Path) -> None:
        """Set the times of new files to this day, which the file system does not know."""
        now = time.time()
        for file in folder.rglob("*"):
            if file not in self.aged and file.is_file():
                os.utime(file, (now, now))
                self.aged.add(file)
