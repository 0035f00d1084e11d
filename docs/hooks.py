"""Files outside docs/ that the pages link to: mkdocs takes them into the site, and links lead there.

In the checkout the same links lead to the files themselves.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"CONTRIBUTING.md": "project/contributing.md", "CHANGELOG.md": "project/changelog.md"}
"""Pages of the site that are at the root of the checkout."""
_LINK = re.compile(r"(?<=\]\()(?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))")
_NOTE = re.compile(r"^(```\w+) \w+$", re.MULTILINE)
"""A word after a block's language, by which tests choose it."""
_INCLUDE = re.compile(r"<!-- include (?P<path>\S+) -->")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages at the root."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files, **_: Any) -> str:
    """Add linked files to the site and point the links at them; replace an include by the file's text.

    A block's note goes, since the site would not take the block for code.
    """
    folder = Path(str(page.file.abs_src_path)).parent

    def replace(match: re.Match[str]) -> str:
        path = (folder / match["target"]).resolve()
        outside = path.is_relative_to(ROOT) and not path.is_relative_to(config.docs_dir)
        if (not outside and page.file.src_uri not in PAGES.values()) or not path.is_file():
            return match[0]
        name = path.relative_to(ROOT).as_posix()
        uri = PAGES.get(name) or (f"files/{name}" if outside else name.removeprefix("docs/"))
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(path)))
        return os.path.relpath(uri, Path(page.file.src_uri).parent) + (match["anchor"] or "")

    return _NOTE.sub(r"\1", _INCLUDE.sub(_included, _LINK.sub(replace, markdown)))


def _included(match: re.Match[str]) -> str:
    path = ROOT / match["path"]
    return f"```{path.suffix[1:]}\n{path.read_text(encoding='utf-8')}```"
