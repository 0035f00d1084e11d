"""The folder of an extract is whole or not there, and a broken one is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ptec_udf.errors import ConfigError, SourceError
from training.data.folder import read_extract_record, write_extract


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), write_extract(tmp_path / "x") as place:
        place.write_record({})
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_stands_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".x.old" / "data").mkdir(parents=True)
    left, living = tmp_path / ".x.partial-0", tmp_path / ".x.partial-1"
    left.mkdir()
    living.mkdir()
    os.utime(left, (0, 0))
    for version in (1, 2):
        with write_extract(tmp_path / "x", overwrite=True) as place:
            place.write_record({"version": version})
    with pytest.raises(ConfigError, match="must be absent or empty"), write_extract(tmp_path / "x") as place:
        place.write_record({"version": 3})  # into a folder that was absent when the command began
    assert json.loads((tmp_path / "x" / "extract.json").read_text()) == {"version": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.partial-1", "x"]


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        (None, "must hold extract.json"),
        ("{", "not JSON"),
        ("[]", "format must be 1, was None"),
        (json.dumps({"format_version": 2}), "format must be 1, was 2"),
        (json.dumps({"format_version": 1}), "lacks 'fingerprint'"),
        (json.dumps({"format_version": 1}), "no folder 'data'"),
    ],
)
def test_a_broken_extract_is_refused(tmp_path: Path, record: str | None, rule: str) -> None:
    if record is not None:
        (tmp_path / "extract.json").write_text(record)

    with pytest.raises(SourceError, match=rule):
        read_extract_record(tmp_path)
