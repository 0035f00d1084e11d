"""Every error that this package raises on purpose.

::

    PtecError                 anything else that ends a command (exit code 1)
    ├── UserError             the person can mend it (exit code 2)
    │   ├── ConfigError       a configuration with one or more faults
    │   ├── SourceError       a source table, extract or file that cannot be used
    │   ├── ArtifactError     a model folder that is broken, changed or of an unknown format
    │   ├── BackboneError     a backbone that is not there or not the one trained with
    │   └── RegistryError     a model or alias that does not exist or cannot be moved
    ├── WarehouseBusyError    another process holds the embedded warehouse
    ├── BudgetError           a night of which more goes wrong than may; nothing is merged
    │   ├── ErrorBudgetError      more of its companies have errors
    │   └── RemovalBudgetError    more of the companies that stand are gone from its source
    ├── HeldError             another run writes scores of the same model, or is of the same alias
    └── TrainingError         training that cannot go on
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager


class PtecError(Exception):
    """Base of all errors of this package; ends a command with exit code 1."""

    exit_code = 1


class UserError(PtecError):
    """Raised when the person who called can mend the cause; ends a command with exit code 2.

    All faults are kept, so that one round trip is enough to mend them all.
    """

    exit_code = 2

    def __init__(self, faults: str | Sequence[str]) -> None:
        """Keep one fault or several; each states the rule, the value and what to do."""
        self.errors = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.errors))


class ConfigError(UserError):
    """Raised when a configuration has one or more faults."""


class SourceError(UserError):
    """Raised when a source table, extract or file is missing or cannot be used."""


class ArtifactError(UserError):
    """Raised when a model folder is broken, was changed or has an unknown format."""


class BackboneError(UserError):
    """Raised when a backbone is missing or is not the one that the artifact was trained with."""


class RegistryError(UserError):
    """Raised when a model or alias does not exist or must not be moved."""


class WarehouseBusyError(PtecError):
    """Raised when another process holds the embedded warehouse."""


class BudgetError(PtecError):
    """Raised when more of a night goes wrong than may; nothing is merged.

    Attributes:
        reason: the same in a few words, for the run's row.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ErrorBudgetError(BudgetError):
    """Raised when more of a night's companies have errors than may have them."""


class RemovalBudgetError(BudgetError):
    """Raised when more of the companies that stand are gone from the source than may be."""


class HeldError(PtecError):
    """Raised when another run of the same model or alias is at work, or has taken over from this one."""


class TrainingError(PtecError):
    """Raised when training cannot go on, for instance because the loss is not finite."""


def says_full_disk(words: str) -> bool:
    """Tell whether another library's message is of a full disk, by words that quote nothing.

    The system's by its number as safetensors gives it, SQLite's, Hadoop's, and Derby's, which goes on without writing.
    """
    return any(known in words for known in _FULL_DISK)


_FULL_DISK = ("(os error 28)", "disk is full", "No space left on device", "user in a read-only database")


def hide_partitions(message: str) -> str:
    """Leave the values out of the names of folders by which a table is partitioned: they may be companies' texts."""
    return re.sub(r"(/[^/=\n]*)=[^/\n]*", r"\1=...", message)


@contextmanager
def collect_errors(faults: list[str], where: str = "") -> Iterator[None]:
    """Note the faults that end what is done inside, and go on, so that all checks have their say.

    Args:
        faults: gets them; who calls raises them.
        where: stands before each.
    """
    try:
        yield
    except UserError as error:
        faults += [where + fault for fault in error.errors]


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Ask for the known name that a wrong one is most like, whatever its case, or say something else if none is."""
    lowered = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f"did you mean {lowered[near[0]]!r}?" if near else otherwise
