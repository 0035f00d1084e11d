"""Conflicts are retried, other errors are not."""

from __future__ import annotations

import pytest
from delta import exceptions as conflicts

from ptec_udf.warehouse.retries import with_retries


@pytest.mark.parametrize(
    "name",
    [
        "DeltaConcurrentModificationException",
        "ConcurrentWriteException",
        "MetadataChangedException",
        "ProtocolChangedException",
        "ConcurrentAppendException",
        "ConcurrentDeleteReadException",
        "ConcurrentDeleteDeleteException",
        "ConcurrentTransactionException",
    ],
)
def test_a_conflict_calls_the_action_afresh_and_waits_longer(name: str) -> None:
    calls, waits = [], []

    def action() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise getattr(conflicts, name)("another writer")
        return "written"

    assert with_retries(action, sleep=waits.append) == "written"
    assert len(calls) == 3
    assert 1 <= waits[0] <= 3 <= 2 * waits[1] and waits[1] <= 6


def test_a_conflict_that_stays_is_raised_and_other_errors_are_at_once() -> None:
    calls: list[int] = []
    waits: list[float] = []

    def action() -> None:
        calls.append(1)
        raise conflicts.ConcurrentAppendException("another writer") if len(calls) < 10 else ValueError("broken")

    with pytest.raises(conflicts.ConcurrentAppendException):
        with_retries(action, sleep=waits.append)
    assert (len(calls), len(waits)) == (6, 5)
    calls.extend([1] * 5)
    with pytest.raises(ValueError, match="broken"):
        with_retries(action, sleep=waits.append)
    assert (len(calls), len(waits)) == (12, 5)
