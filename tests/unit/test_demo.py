"""The demo's folder and its site file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptec_jobs.demo import run as demo
from ptec_jobs.site import FILE_NAME, Site
from ptec_udf.errors import ConfigError


class Started(Exception):
    """Spark would start now."""


@pytest.fixture(autouse=True)
def _without_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise Started

    monkeypatch.setattr(Site, "session", start)
    monkeypatch.setattr(demo, "_train", start)


def run(folder: Path) -> None:
    demo.run(folder, None, verbose=False, tell=str)


def test_foreign_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("dear", encoding="utf-8")
    with pytest.raises(ConfigError, match="must be absent, empty or of an earlier demo"):
        run(tmp_path)
    assert [(file.name, file.read_text(encoding="utf-8")) for file in tmp_path.iterdir()] == [("data", "dear")]


def test_earlier_demo_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    for _ in range(2):
        with pytest.raises(Started):
            run(folder)
        assert not (folder / "left").exists()
        (folder / "left").touch()
    site = Site(folder / FILE_NAME)
    assert site.score.source.table == "ptec.companies"
    assert site.section("train").extract == site.section("extract").out
