"""What the demo does to a folder before anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.demo import run as demo
from ptec_udf.errors import ConfigError


class Begun(Exception):
    """Spark would be started now."""


@pytest.fixture(autouse=True)
def _without_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(*_: Any) -> None:
        raise Begun

    monkeypatch.setattr(demo, "build_session", begun)


def test_a_folder_of_somebody_else_is_refused_and_left(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("dear", encoding="utf-8")
    with pytest.raises(ConfigError, match="must be absent, empty or an earlier demo's"):
        demo.run(tmp_path)
    assert [(file.name, file.read_text(encoding="utf-8")) for file in tmp_path.iterdir()] == [("data", "dear")]


def test_an_earlier_demo_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    for _ in range(2):  # where there is none, and where there is one
        with pytest.raises(Begun):
            demo.run(folder)
        assert not (folder / "left").exists()
        assert {file.name for file in folder.glob("*.yaml")} == {"extract.yaml", "train.yaml", "score.yaml"}
        (folder / "left").touch()
