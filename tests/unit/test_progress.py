"""Lines of progress: on time, with what is known, and ended with the work."""

from __future__ import annotations

import threading
import time

import pytest

from ptec_udf import log as progress
from ptec_udf.log import seconds_left, watched


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.01)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LOOKS", 0.01)


def test_lines_come_while_the_work_runs_and_end_with_it(soon, capsys):
    looked = threading.Event()

    def look(seconds):
        looked.set()
        return 0.5, f"half is done, {'late' if seconds > 60 else 'early'}"

    with watched(look):
        assert looked.wait(60)
    said = capsys.readouterr()
    assert "half is done, early\n" in said.err
    assert not said.out
    time.sleep(0.05)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("width", "has_bar"), [("80", False), ("160", True)])
def test_a_terminal_gets_a_line_that_moves_and_a_wide_one_a_bar(soon, monkeypatch, capsys, width, has_bar):
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "say", lambda _: pytest.fail("a line was printed"))
    looked = threading.Semaphore(0)
    with watched(lambda _: looked.release() or (0.5, "half is done")):
        assert all(looked.acquire(timeout=60) for _ in range(3))
    said = capsys.readouterr().err
    assert "half is done" in said
    assert ("\u2501" in said) == has_bar


def test_failure_of_the_work_is_raised(soon):
    with pytest.raises(KeyError), watched(lambda _: (0.0, "nothing")):
        raise KeyError


def test_time_left_is_that_of_the_rest():
    assert seconds_left(0.25, 10.0) == "about 30 s left"
    assert seconds_left(0.0, 10.0) == "time left not known yet"
