"""A full disk and a broken source file end a run with a clear error, and the next run puts everything right."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import deltalake
import pytest

from tests.faults.site import FaultSite
from tests.processes import ROOT, TIMEOUT_S, ptec

pytestmark = pytest.mark.long

_UNSHARE = ("unshare", "--map-root-user", "--mount")
_SIZE = "400m"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> FaultSite:
    return FaultSite.prepare(tmp_path_factory.mktemp("disk") / "site", n_companies=200, n_before=60)


def can_mount() -> bool:
    """Whether a file system may be mounted for a process of its own."""
    command = [*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


class TestDisk:
    @pytest.mark.parametrize("kilobytes", [100, 200])
    def test_full(self, site: FaultSite, kilobytes: int) -> None:
        if not can_mount():
            pytest.skip("no file system can be mounted here: a full disk was not tried")
        command = [*_UNSHARE, sys.executable, "-m", "tests.faults.test_disk", str(site.folder), str(kilobytes)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found == {"code": 1, "unchanged": True, "rerun": "done", "anomalies": []} | {"error": found["error"]}
        assert "space" in found["error"] or "no room" in found["error"]

    def test_broken_file(self, site: FaultSite) -> None:
        site.restore()
        before = site.tables()["scores"]
        file = Path(deltalake.DeltaTable(site.table("companies")).file_uris()[0].removeprefix("file://"))
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        run = ptec(*site.command(), cwd=site.folder)
        assert (run.returncode, site.tables()["scores"]) == (1, before)
        assert file.name in run.stderr
        file.write_bytes(whole)
        assert site.run()["outcome"] == "done"
        assert site.anomalies() == []


def fill(folder: Path, kilobytes: int) -> None:
    """Run on a file system with so little free, make room, and run again; print how both ended."""
    site, warehouse = FaultSite(folder), folder / "warehouse"
    _mount(warehouse, f"size={_SIZE}")
    shutil.copytree(folder / "before", warehouse, dirs_exist_ok=True)
    used = shutil.disk_usage(warehouse).used // 1024
    _mount(warehouse, f"remount,size={used + kilobytes}k")
    before = site.tables()["scores"]
    run = ptec(*site.command(), cwd=folder)
    found = {"code": run.returncode, "error": run.stderr, "unchanged": site.tables()["scores"] == before}
    _mount(warehouse, f"remount,size={_SIZE}")
    found |= {"rerun": site.run()["outcome"], "anomalies": site.anomalies()}
    print(json.dumps(found))  # noqa: T201


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]))
