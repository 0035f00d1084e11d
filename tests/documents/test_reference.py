"""The generated reference pages are those of the code."""

from __future__ import annotations

import runpy

from tests.documents.pages import ROOT


def test_pages_are_current() -> None:
    pages = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()
    folder = ROOT / "docs" / "reference"
    assert {file.name for file in folder.iterdir()} == set(pages)
    stale = [name for name, text in pages.items() if (folder / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run python docs/generate.py"
