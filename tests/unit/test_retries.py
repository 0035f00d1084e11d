"""Conflicts are retried, other errors are not."""

from __future__ import annotations

import time

import pytest
from delta import exceptions as conflicts

from ptec_udf.warehouse.retries import with_retries


@pytest.fixture
def waits(monkeypatch):
    found = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


@pytest.mark.parametrize(
    "name", ["ConcurrentAppendException", "ConcurrentDeleteReadException", "MetadataChangedException"]
)
def test_a_conflict_calls_the_action_again_and_waits_longer(name, waits):
    results = [getattr(conflicts, name)("another writer")] * 2

    def action():
        if results:
            raise results.pop()
        return "written"

    assert with_retries(action) == "written"
    assert 1 <= waits[0] <= 3 <= 2 * waits[1] <= 12


def test_the_sixth_conflict_and_other_errors_are_raised(waits):
    calls = []

    def action():
        calls.append(1)
        raise conflicts.ConcurrentAppendException("another writer") if len(calls) < 7 else ValueError("broken")

    with pytest.raises(conflicts.ConcurrentAppendException):
        with_retries(action)
    assert (len(calls), len(waits)) == (6, 5)
    with pytest.raises(ValueError, match="broken"):
        with_retries(action)
    assert (len(calls), len(waits)) == (7, 5)
