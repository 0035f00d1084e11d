"""All errors that this package raises on purpose, each with a stable code; a message has problem, rule and remedy."""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

_ROOT = Path(__file__).resolve().parents[1]


class PtecError(Exception):
    """An error outside the user's reach, such as a failure of Spark; the message names its kind."""

    code: ClassVar[str] = "PTEC-E001"
    exit_code: ClassVar[int] = 1

    def __init_subclass__(cls, code: str) -> None:
        """Set the class's own code."""
        cls.code = code


class UserError(PtecError, code="PTEC-E010"):
    """An option, setting or input that the user can correct; ``errors`` has all messages at once."""

    exit_code = 2

    def __init__(self, errors: str | Sequence[str]) -> None:
        self.errors = [errors] if isinstance(errors, str) else list(errors)
        super().__init__("\n".join(self.errors))


class ConfigError(UserError, code="PTEC-E011"):
    """A configuration, an option or an argument with one or more errors."""


class SourceError(UserError, code="PTEC-E012"):
    """A source table, extract or file that is missing or cannot be used."""


class ArtifactError(UserError, code="PTEC-E013"):
    """A model folder that is broken, was changed or has an unknown format."""


class BackboneError(UserError, code="PTEC-E014"):
    """A backbone that is missing, or differs from the backbone of the training."""


class RegistryError(UserError, code="PTEC-E015"):
    """A model or alias that does not exist, or a move of an alias that the gate refuses."""


class UntranslatableError(UserError, code="PTEC-E016"):
    """A SQL statement that DuckDB cannot run; `--engine spark` may run it."""


class BudgetError(PtecError, code="PTEC-E020"):
    """A run with too many errors or removals; ``reason`` is for the run's row."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ErrorBudgetError(BudgetError, code="PTEC-E021"):
    """More companies of a run have errors than ``max_error_fraction`` allows; nothing was merged."""


class RemovalBudgetError(BudgetError, code="PTEC-E022"):
    """More active companies are missing from the source than ``max_removed_fraction`` allows; nothing was scored."""


class ConflictError(PtecError, code="PTEC-E023"):
    """Another run wrote scores of the same model at the same time, in every attempt; run the command again."""


class TrainingError(PtecError, code="PTEC-E030"):
    """Training that cannot continue, for instance because the loss is not finite."""


def says_full_disk(message: str) -> bool:
    """Return whether a message of safetensors, SQLite or Hadoop is about a full disk."""
    return any(known in message for known in ("(os error 28)", "disk is full", "No space left on device"))


def hide_partitions(message: str) -> str:
    """Remove the values from partition folders such as ``/name=value``: they may be companies' texts."""
    return re.sub(r"(/[^/=\n]*)=[^/\n]*", r"\1=...", message)


def location_of(error: Exception) -> str:
    """Return file and line of the innermost frame of our code, without a message that may quote a text."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [one for one in frames if Path(one.filename).is_relative_to(_ROOT) and "site-packages" not in one.filename]
    frame = (ours or frames)[-1]
    path = Path(frame.filename)
    return f"{path.relative_to(_ROOT) if ours else path.name}:{frame.lineno}"


@contextmanager
def collect_errors(errors: list[str], prefix: str = "") -> Iterator[None]:
    """Add the user errors of the block to a list, each with a prefix, so that later checks run too."""
    try:
        yield
    except UserError as error:
        errors += [prefix + one for one in error.errors]


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Suggest the known name that is most similar to a wrong one, whatever its case; else return ``otherwise``."""
    lowered = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f"did you mean {lowered[near[0]]!r}?" if near else otherwise
