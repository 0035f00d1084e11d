"""What README.md and the pages of docs show: fenced blocks, links, and the settings that they name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ptec_jobs.site import SECTIONS, section_class
from ptec_udf.config import ScoreConfig

ROOT = Path(__file__).resolve().parents[2]
_RECORDS = ROOT / "docs" / "benchmarks"
PAGES = (ROOT / "README.md", *(page for page in sorted((ROOT / "docs").rglob("*.md")) if _RECORDS not in page.parents))

_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_COMMAND = re.compile(r"(?:^|[(|;&] *|\$ )(?:[\w./]+/)?ptec (?=[a-z])", re.M)
_OF_THE_SHELL = "();<>|&\n"


@dataclass(frozen=True)
class Block:
    """A fenced block: language, the words after it on the fence, text and the number of its first line."""

    page: Path
    language: str
    note: str
    text: str
    line: int

    @property
    def name(self) -> str:
        """Page and line, for a message."""
        return f"{self.page.name}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages in some languages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            language, _, note = match["info"].strip().partition(" ")
            if language in languages:
                found.append(Block(page, language, note, match["text"], text.count("\n", 0, match.start()) + 2))
    return found


def prose(page: Path) -> str:
    """Return a page without its blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and pictures to other files of the project."""
    return [match["target"] for match in _LINK.finditer(prose(page)) if "://" not in match["target"]]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield where each ``ptec`` command is shown, and its words up to those of the shell."""
    for block in blocks("sh", "bash", "console", ""):
        for start in _COMMAND.finditer(block.text.replace("\\\n", " ")):
            words = shlex.shlex(start.string[start.end() :], posix=True, punctuation_chars=_OF_THE_SHELL)
            words.whitespace_split, words.whitespace, words.commenters = True, " \t", ""
            yield (
                block.name,
                list(takewhile(lambda word: word[:1] != "#" and not set(word) <= set(_OF_THE_SHELL), words)),
            )


@cache
def settings() -> frozenset[str]:
    """Return the dotted names of all settings and sections of a site file."""
    found = set(_names(ScoreConfig, ""))
    for section in SECTIONS:
        found |= {section, *_names(section_class(section), f"{section}.")}
    return frozenset(found)


def keys_of(values: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a YAML mapping, down to the level of settings."""
    for key, value in values.items() if isinstance(values, dict) else ():
        yield f"{prefix}{key}"
        inner = f"{prefix}{key}."
        if any(name.startswith(inner) for name in settings()):
            yield from keys_of(value, inner)


def _names(config: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in config.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(field.annotation, f"{prefix}{name}.")
