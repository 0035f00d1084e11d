"""Writing again what another writer was in the way of."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from delta import exceptions as conflicts

from ptec_udf.log import logger

# All eight: in Python the others are not subclasses of the first, as they are in the JVM.
_CONFLICTS: tuple[type[Exception], ...] = (
    conflicts.DeltaConcurrentModificationException,
    conflicts.ConcurrentWriteException,
    conflicts.MetadataChangedException,
    conflicts.ProtocolChangedException,
    conflicts.ConcurrentAppendException,
    conflicts.ConcurrentDeleteReadException,
    conflicts.ConcurrentDeleteDeleteException,
    conflicts.ConcurrentTransactionException,
)

_FIRST_WAIT_S = 2.0

ResultT = TypeVar("ResultT")


def _is_conflict(error: Exception) -> bool:
    """Tell whether another writer was in the way of a commit."""
    return isinstance(error, _CONFLICTS)


def with_retries(
    action: Callable[[], ResultT],
    attempts: int = 5,
    sleep: Callable[[float], None] = time.sleep,
    in_the_way: Callable[[Exception], bool] = _is_conflict,
) -> ResultT:
    """Call ``action`` until no other writer is in its way, at most ``attempts`` times.

    The wait doubles each time and is spread by chance, or two writers would meet again. ``action`` must
    read afresh what it depends on.

    Args:
        action: reads and writes; called from its beginning each time.
        attempts: most calls.
        sleep: waits for seconds.
        in_the_way: tells by an error whether another writer was.

    Raises:
        Exception: the conflict of the last call, or what is none.
    """
    for attempt in range(1, attempts):
        try:
            return action()
        except Exception as error:
            if not in_the_way(error):
                raise
            logger.info(
                f"another writer was in the way ({type(error).__name__}); trying again, {attempt} of {attempts - 1}"
            )
            sleep(_FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
    return action()
