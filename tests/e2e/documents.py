"""What README.md and docs/*.md show: code blocks, links, tables, and the settings that they name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from pydantic import BaseModel

from ptec_udf.config import ScoreConfig
from ptec_udf.monitor.housekeeping import HousekeepingConfig
from training.benchmark.config import BenchmarkConfig
from training.calibrate.config import RecalibrateConfig
from training.config import TrainConfig
from training.data.config import ExtractConfig
from training.evaluate.config import EvaluateConfig
from training.search import SearchConfig

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
CONFIGS: dict[str, type[BaseModel]] = {
    "extract": ExtractConfig,
    "train": TrainConfig,
    "search": SearchConfig,
    "benchmark": BenchmarkConfig,
    "evaluate": EvaluateConfig,
    "score": ScoreConfig,
    "housekeeping": HousekeepingConfig,
    "recalibrate": RecalibrateConfig,
}

_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
# A script that does one step takes what the command of its name does.
_COMMAND = re.compile(rf"(?:^|[(|;&] *)(?:[\w./]+/)?ptec (?=[a-z])|\bjobs/(?=(?:{'|'.join(CONFIGS)})\.py)", re.M)
_OF_THE_SHELL = "();<>|&\n"
_CELL = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block: language, what follows it on the fence, text and first line's number."""

    page: Path
    language: str
    note: str
    text: str
    line: int

    @property
    def name(self) -> str:
        """Where it stands, for a message."""
        return f"{self.page.name}:{self.line}"


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return a page's blocks of some languages, in order."""
    found = []
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
    """Return the anchors of a page's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the words of each ``ptec`` command or job script in a block, up to what the shell makes of the rest."""
    for start in _COMMAND.finditer(block.text.replace("\\\n", " ")):
        words = shlex.shlex(start.string[start.end() :], posix=True, punctuation_chars=_OF_THE_SHELL)
        words.whitespace_split, words.whitespace, words.commenters = True, " \t", ""
        name, *rest = takewhile(lambda word: word[:1] != "#" and not set(word) <= set(_OF_THE_SHELL), words)
        yield [name.removesuffix(".py"), *rest]


def overrides(words: list[str]) -> list[str]:
    """Return what a command's words give with ``--set``."""
    return [words[at + 1] for at, word in enumerate(words) if word == "--set"]


def tables(text: str, first_heading: str) -> Iterator[list[str]]:
    """Yield the rows' first cells of every table whose first heading is the given one."""
    for table in re.findall(r"(?:^\|.*\n)+", text + "\n", re.M):
        rows = [line.strip("|").split("|")[0].strip() for line in table.splitlines()]
        if rows[0] == first_heading:
            yield rows[2:]


def names(cells: list[str]) -> list[str]:
    """Return all code spans in some cells."""
    return [name for cell in cells for name in _CELL.findall(cell)]


def config_names(command: str) -> list[str]:
    """Return the dotted names of all settings and sections of one configuration."""
    return list(_names(CONFIGS[command], ""))


def settings() -> set[str]:
    """Return the dotted names of all settings and sections of all configurations."""
    return {name for command in CONFIGS for name in config_names(command)}


def _names(config: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in config.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(field.annotation, f"{prefix}{name}.")
