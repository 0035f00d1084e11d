"""A catalog that another process has open is waited for, and not for ever."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace

import pytest

from jobs.demo import run as demo
from ptec_udf.errors import WarehouseBusyError
from ptec_udf.warehouse import embedded
from ptec_udf.warehouse.embedded import check_free

HOLDER = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "warehouse"
    (made / "metastore").mkdir(parents=True)
    (made / "metastore" / "dbex.lck").write_bytes(b"")
    return made


@pytest.fixture
def holder(folder: Path) -> Iterator[Popen[str]]:
    """A process that holds the catalog's lock until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(folder / "metastore" / "dbex.lck")]
    with Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


def test_a_catalog_is_waited_for_until_it_is_free(
    folder: Path, holder: Popen[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = []

    def free(seconds: float) -> None:
        waits.append(seconds)
        holder.communicate()

    monkeypatch.setattr(embedded, "time", SimpleNamespace(monotonic=time.monotonic, sleep=free))
    check_free(folder)
    assert len(waits) == 1
    assert "is in use by another process: waiting for it, 20 s at most" in capsys.readouterr().err


@pytest.mark.usefixtures("holder")
def test_a_catalog_that_does_not_become_free_is_busy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_LOCK_WAIT_S", 0.2)
    with pytest.raises(WarehouseBusyError, match="is in use by another process"):
        check_free(folder)


@pytest.mark.usefixtures("holder")
def test_a_demo_that_is_at_work_is_not_removed_by_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_LOCK_WAIT_S", 0.2)
    (folder.parent / demo.MARK).touch()
    with pytest.raises(WarehouseBusyError, match="is in use by another process"):
        demo.run(folder.parent)
    assert folder.is_dir()


def test_a_catalog_that_nobody_has_is_not_waited_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_free(folder)
    (folder / "metastore" / "dbex.lck").unlink()
    check_free(folder)
    assert capsys.readouterr().err == ""
