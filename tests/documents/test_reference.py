"""The generated reference pages and conf/ptec.yaml are current."""

from __future__ import annotations

import runpy

from tests.documents.pages import ROOT

GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))


def test_pages_are_current() -> None:
    pages = GENERATE["pages"]()
    folder = ROOT / "docs" / "reference"
    assert {file.name for file in folder.iterdir()} == set(pages)
    stale = [name for name, text in pages.items() if (folder / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run python docs/generate.py"


def test_site_file_is_current() -> None:
    shown = (ROOT / "conf" / "ptec.yaml").read_text(encoding="utf-8")
    assert shown == GENERATE["site_file"](), "run python docs/generate.py"
