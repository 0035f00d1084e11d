"""A night on a disk that fills up, then with room again.

Run it so::

    unshare --map-root-user --mount python -m tests.faults.full_disk FOLDER KILOBYTES

The warehouse of the ``FaultSite`` in FOLDER gets a file system in memory of its own, which ends with this process, with
so many free KILOBYTES. Prints as JSON how the night ended, what stood in the tables then, and what after a rerun.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.e2e.processes import ptec
from tests.faults.site import FaultSite, score

_ROOM = "400m"


def main(folder: Path, kilobytes: int) -> None:
    """Fill up, look, make room, run again."""
    site, warehouse = FaultSite(folder), folder / "warehouse"
    _mount(warehouse, f"size={_ROOM}")
    shutil.copytree(folder / "before", warehouse, dirs_exist_ok=True)
    used = shutil.disk_usage(warehouse).used // 1024
    _mount(warehouse, f"remount,size={used + kilobytes}k")
    before = site.tables()
    night = ptec(*score(), cwd=folder)
    found = {"before": before, "code": night.returncode, "said": night.stderr, "after": site.tables()}
    _mount(warehouse, f"remount,size={_ROOM}")
    found["rerun"] = site.night()
    print(json.dumps(found | {"tables": site.tables()}, default=str))  # noqa: T201


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
