"""A disk that fills up and a file that is broken end a night with a clear error, and leave the tables as they were."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import deltalake
import pytest

from tests.e2e.processes import ROOT, TIMEOUT_S, ptec
from tests.faults.site import FaultSite, score

pytestmark = pytest.mark.long

FREE_KILOBYTES = (200, 400)
_UNSHARE = ["unshare", "--map-root-user", "--mount"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> FaultSite:
    return FaultSite.prepare(tmp_path_factory.mktemp("disk") / "site")


@pytest.fixture(scope="module")
def undisturbed(site: FaultSite) -> dict[str, Any]:
    assert site.night()["outcome"] == "done"
    tables = site.tables()
    site.restore()
    return json.loads(json.dumps(tables, default=str))


def can_mount() -> bool:
    """Whether a file system may be mounted for a process of its own."""
    command = [*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("kilobytes", FREE_KILOBYTES)
def test_full_disk(site: FaultSite, undisturbed: dict[str, Any], kilobytes: int) -> None:
    if not can_mount():
        pytest.skip("no file system can be mounted here: a full disk was not tried")
    command = [*_UNSHARE, sys.executable, "-m", "tests.faults.full_disk", str(site.folder), str(kilobytes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["code"] == 1
    assert "no room" in found["said"]
    assert found["after"]["scores"] == found["before"]["scores"]
    assert (found["rerun"]["outcome"], found["tables"]) == ("done", undisturbed)


def test_file_of_the_source_that_cannot_be_read(site: FaultSite, undisturbed: dict[str, Any]) -> None:
    site.restore()
    before = site.tables()["scores"]
    file = Path(deltalake.DeltaTable(site.table("companies")).file_uris()[0].removeprefix("file://"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    night = ptec(*score(), cwd=site.folder)
    assert (night.returncode, site.tables()["scores"]) == (1, before)
    assert "a file that cannot be read" in night.stderr
    assert file.name in night.stderr
    file.write_bytes(whole)
    assert site.night()["outcome"] == "done"
    assert json.loads(json.dumps(site.tables(), default=str)) == undisturbed
