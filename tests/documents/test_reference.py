"""The generated reference pages and conf/ptec.yaml are current; the site of the pages builds."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents.pages import ROOT

GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))


def test_pages_are_current() -> None:
    pages = GENERATE["pages"]()
    folder = ROOT / "docs" / "reference"
    stale = [name for name, text in pages.items() if (folder / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run python docs/generate.py"


def test_site_file_is_current() -> None:
    shown = (ROOT / "conf" / "ptec.yaml").read_text(encoding="utf-8")
    assert shown == GENERATE["site_file"](), "run python docs/generate.py"


@pytest.mark.long
def test_site_builds_without_warnings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").exists()
