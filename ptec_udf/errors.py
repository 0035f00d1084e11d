"""All errors that this package raises on purpose, each with a stable code.

A message states what is wrong (with the value), the rule and what to do. Exit codes of a command: 0 done, also
"nothing to do"; 2 user error; 3 time to retrain (``ptec drift``); 1 anything else.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar


class PtecError(Exception):
    """An error outside the user's reach, such as a failure of Spark; the message names its kind."""

    code: ClassVar[str] = "PTEC-E001"
    exit_code: ClassVar[int] = 1


class UserError(PtecError):
    """An option, setting or input that the user can correct; all errors are reported at once.

    Attributes:
        errors: the messages.
    """

    code = "PTEC-E010"
    exit_code = 2

    def __init__(self, errors: str | Sequence[str]) -> None:
        self.errors = [errors] if isinstance(errors, str) else list(errors)
        super().__init__("\n".join(self.errors))


class ConfigError(UserError):
    """A configuration, an option or an argument with one or more errors."""

    code = "PTEC-E011"


class SourceError(UserError):
    """A source table, extract or file that is missing or cannot be used."""

    code = "PTEC-E012"


class ArtifactError(UserError):
    """A model folder that is broken, was changed or has an unknown format."""

    code = "PTEC-E013"


class BackboneError(UserError):
    """A backbone that is missing, or is not the one that the artifact was trained with."""

    code = "PTEC-E014"


class RegistryError(UserError):
    """A model or alias that does not exist, or a move of an alias that the gate refuses."""

    code = "PTEC-E015"


class BudgetError(PtecError):
    """A run with too many errors or removals; nothing was merged.

    Attributes:
        reason: the same in a few words, for the run's row.
    """

    code = "PTEC-E020"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ErrorBudgetError(BudgetError):
    """More companies of a run have errors than ``max_error_fraction`` allows; nothing was merged."""

    code = "PTEC-E021"


class RemovalBudgetError(BudgetError):
    """More active companies are missing from the source than ``max_removed_fraction`` allows; nothing was merged."""

    code = "PTEC-E022"


class ConflictError(PtecError):
    """Another run wrote scores of the same model at the same time, in every attempt; run the command again."""

    code = "PTEC-E023"


class TrainingError(PtecError):
    """Training that cannot continue, for instance because the loss is not finite."""

    code = "PTEC-E030"


def error_classes() -> list[type[PtecError]]:
    """Return all error classes in the order of their codes; the first line of each docstring is its meaning."""
    found: list[type[PtecError]] = [PtecError]
    for kind in found:
        found += kind.__subclasses__()
    return sorted(found, key=lambda kind: kind.code)


_FULL_DISK = ("(os error 28)", "disk is full", "No space left on device", "user in a read-only database")


def says_full_disk(message: str) -> bool:
    """Return whether a message of another library is about a full disk: safetensors, SQLite, Hadoop or Derby."""
    return any(known in message for known in _FULL_DISK)


def hide_partitions(message: str) -> str:
    """Remove the values from partition folders such as ``/name=value``: they may be companies' texts."""
    return re.sub(r"(/[^/=\n]*)=[^/\n]*", r"\1=...", message)


@contextmanager
def collect_errors(errors: list[str], prefix: str = "") -> Iterator[None]:
    """Add the user errors of the block to a list in place of raising them, so that later checks run too.

    Args:
        errors: is extended; the caller raises it.
        prefix: begins each message.
    """
    try:
        yield
    except UserError as error:
        errors += [prefix + one for one in error.errors]


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Suggest the known name that is most similar to a wrong one, whatever its case; else return ``otherwise``."""
    lowered = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f"did you mean {lowered[near[0]]!r}?" if near else otherwise
