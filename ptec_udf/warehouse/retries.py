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
_CONFLICTS = (*(getattr(delta_errors, name) for name in delta_errors.__all__), ConflictError)
_FIRST_WAIT_S = 2.0
_MAX_ATTEMPTS = 6

ResultT = TypeVar("ResultT")


def is_conflict(error: Exception) -> bool:
    """Return whether a commit lost against another writer."""
    return isinstance(error, _CONFLICTS)


def with_retries(action: Callable[[], ResultT], retry_if: Callable[[Exception], bool] = is_conflict) -> ResultT:
    """Call ``action`` from its beginning until it succeeds, six times at most, with exponential back-off and jitter."""
    for attempt in range(1, _MAX_ATTEMPTS):
        try:
            return action()
        except Exception as error:
            if not retry_if(error):
                raise
            logger.info(f"conflict with another writer ({type(error).__name__}); retry {attempt}")
        # Two writers that wait equally long meet again.
        time.sleep(_FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
    return action()
