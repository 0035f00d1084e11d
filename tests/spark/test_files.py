"""Files of a folder, listed alike on this machine and by Hadoop, also while others come and go."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from pyspark.sql import SparkSession

from ptec_udf.warehouse.files import list_files

_DAY = {"day=1/a.parquet": b"one", "day=2/b c%20.parquet": b"three"}
_HIDDEN = {"_SUCCESS": b"", ".a.parquet.crc": b"x", "_delta_log/0.json": b"{}", "day=1/.part/c.parquet": b"x"}


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files, each in its folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@contextmanager
def come_and_go(folder: Path) -> Iterator[None]:
    """Write, rename and remove hidden files in a folder while the block runs."""
    ended, rounds = Event(), []

    def write_on() -> None:
        while not ended.is_set():
            for at in range(20):
                (folder / f".{at}.tmp").write_bytes(b"")
            for at in range(20):
                (folder / f".{at}.tmp").rename(folder / f".{at}.json")
            for at in range(20):
                (folder / f".{at}.json").unlink()
            rounds.append(1)

    others = Thread(target=write_on)
    others.start()
    try:
        yield
    finally:
        ended.set()
        others.join()
    assert rounds


@pytest.fixture(params=["this machine", "Hadoop"])
def named(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> str:
    """Return the name of a folder, for this machine or as a mount of a file system that only Hadoop knows."""
    if request.param == "this machine":
        return str(tmp_path)
    at = uuid.uuid4().hex  # Hadoop keeps what it has opened by this name
    setting = f"fs.viewfs.mounttable.{at}.link./here"
    spark.conf.set(setting, tmp_path.as_uri())
    request.addfinalizer(lambda: spark.conf.unset(setting))
    return f"viewfs://{at}/here"


def test_data_files_are_listed_at_any_depth(spark: SparkSession, tmp_path: Path, named: str) -> None:
    write(tmp_path, _DAY | _HIDDEN)
    for at, name in enumerate(_DAY):
        os.utime(tmp_path / name, ns=(0, 1_700_000_000_123_999_999 + at))
    expected = [(name, len(content), 1_700_000_000_123) for name, content in _DAY.items()]
    expected[1] = (*expected[1][:2], 1_700_000_000_124)
    assert sorted(list_files(spark, named) or []) == expected
    assert list_files(spark, f"{named}/day=1/a.parquet") == [("a.parquet", *expected[0][1:])]
    assert list_files(spark, f"{named}/_delta_log") == [("0.json", 2, *_changed(tmp_path / "_delta_log/0.json"))]
    assert list_files(spark, f"{named}/day=3") is None


def _changed(file: Path) -> tuple[int]:
    return (file.stat().st_mtime_ns // 1_000_000,)


def test_a_linked_folder_is_part_of_its_source_and_a_link_to_nothing_is_not(
    spark: SparkSession, tmp_path: Path
) -> None:
    write(tmp_path, {"elsewhere/b.parquet": b"two", "source/a.parquet": b"one"})
    (tmp_path / "source" / "day=2").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "source" / "gone.parquet").symlink_to(tmp_path / "nothing")
    found = list_files(spark, f"file:{tmp_path}/source") or []
    assert sorted(name for name, _, _ in found) == ["a.parquet", "day=2/b.parquet"]


def test_a_file_that_cannot_be_looked_at_is_no_empty_folder(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").symlink_to("a.parquet")
    with pytest.raises(OSError, match="symbolic links"):
        list_files(spark, str(tmp_path))


@pytest.mark.parametrize("refused", [PermissionError, FileNotFoundError])
def test_a_folder_that_may_not_be_read_is_no_empty_one_and_one_that_has_gone_is(
    spark: SparkSession, tmp_path: Path, refused: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, _DAY)
    scan = os.scandir

    def refuse(folder: str) -> object:
        if folder.endswith("day=1"):
            raise refused(folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)  # who tests as root may read everything
    if refused is PermissionError:
        with pytest.raises(PermissionError, match="day=1"):
            list_files(spark, str(tmp_path))
    else:
        assert [name for name, _, _ in list_files(spark, str(tmp_path)) or []] == ["day=2/b c%20.parquet"]


def test_a_folder_is_listed_while_files_come_are_renamed_and_go(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, _DAY)
    with come_and_go(tmp_path):
        lists = [sorted(name for name, _, _ in list_files(spark, str(tmp_path)) or []) for _ in range(200)]
    assert lists == [sorted(_DAY)] * 200
