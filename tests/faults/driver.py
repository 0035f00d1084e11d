"""Drivers that stay: processes that score a site's tables when they are told to, without a start for each night."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.processes import TIMEOUT_S, environment
from tests.faults.driver_process import STOP
from tests.faults.site import FaultSite


@dataclass
class Driver:
    """A process that scores.

    Attributes:
        own: its folder, for orders, answers, catalog and log.
        process: of the system.
        orders: that it was given.
    """

    own: Path
    process: subprocess.Popen[bytes]
    orders: int = 0

    @classmethod
    def start(cls, site: FaultSite, own: Path, *lease_s: str) -> Driver:
        """Start one, whose holds last so many seconds, or as they do everywhere; ``wait`` says when it is ready."""
        own.mkdir()
        command = [sys.executable, "-m", "tests.faults.driver_process", str(site.folder), str(own), *lease_s]
        with (own / "log").open("wb") as log:
            return cls(own, subprocess.Popen(command, cwd=own, env=environment(), stdout=log, stderr=log))

    def wait(self, name: str = "ready") -> Path:
        """Wait for a file that it writes."""
        end = time.monotonic() + TIMEOUT_S
        while not (self.own / name).exists():
            assert time.monotonic() < end, f"{name} did not come: {self.said()[-2000:]}"
            assert self.process.poll() is None, f"the driver ended before {name}: {self.said()[-2000:]}"
            time.sleep(0.02)
        return self.own / name

    def order(self, order: Any) -> None:
        """Tell it to score with some overrides, or to stop."""
        part = self.own / "order.part"
        part.write_text(json.dumps(order), encoding="utf-8")
        part.rename(self.own / f"order-{self.orders}.json")
        self.orders += 1

    def answer(self) -> dict[str, Any]:
        """Wait for the end of the night that was ordered last, and return its result."""
        found: dict[str, Any] = json.loads(self.wait(f"answer-{self.orders - 1}.json").read_text(encoding="utf-8"))
        return found

    def night(self, *overrides: str) -> dict[str, Any]:
        """Order a night and wait for its end."""
        self.order(overrides)
        return self.answer()

    def said(self) -> str:
        """Return its log."""
        return (self.own / "log").read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Let it end."""
        self.order(STOP)
        self.process.wait(120)
