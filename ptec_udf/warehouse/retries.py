"""Retry a Delta commit that lost against another writer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from delta import exceptions as delta_errors

from ptec_udf.errors import ConflictError
from ptec_udf.log import logger

# All of them: in Python they are not subclasses of the first, as they are in the JVM.
_CONFLICTS: tuple[type[Exception], ...] = (
    delta_errors.DeltaConcurrentModificationException,
    delta_errors.ConcurrentWriteException,
    delta_errors.MetadataChangedException,
    delta_errors.ProtocolChangedException,
    delta_errors.ConcurrentAppendException,
    delta_errors.ConcurrentDeleteReadException,
    delta_errors.ConcurrentDeleteDeleteException,
    delta_errors.ConcurrentTransactionException,
    ConflictError,
)
_FIRST_WAIT_S = 2.0
_MAX_ATTEMPTS = 6

ResultT = TypeVar("ResultT")


def is_conflict(error: Exception) -> bool:
    """Return whether a commit lost against another writer."""
    return isinstance(error, _CONFLICTS)


def with_retries(
    action: Callable[[], ResultT],
    *,
    max_attempts: int = _MAX_ATTEMPTS,
    sleep: Callable[[float], None] = time.sleep,
    retry_if: Callable[[Exception], bool] = is_conflict,
) -> ResultT:
    """Call ``action`` until it succeeds, with exponential back-off and jitter.

    Args:
        action: reads what it depends on and writes; called from its beginning each time.
        max_attempts: number of calls at most.
        sleep: waits for seconds.
        retry_if: decides by the error whether another call may succeed.

    Raises:
        Exception: the error of the last call, or the first that ``retry_if`` refuses.
    """
    for attempt in range(1, max_attempts):
        try:
            return action()
        except Exception as error:
            if not retry_if(error):
                raise
            logger.info(f"conflict with another writer ({type(error).__name__}); retry {attempt} of {max_attempts - 1}")
        # Two writers that wait equally long meet again.
        sleep(_FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
    return action()
