"""Messages are one line of text or JSON each, and progress ends with the work."""

from __future__ import annotations

import json
import threading
import time

import pytest

from ptec_udf import log
from ptec_udf.log import configure_log, logger, progress, watched


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(log, "_SECONDS_BETWEEN_LINES", 0.01)
    monkeypatch.setattr(log, "_SECONDS_BETWEEN_UPDATES", 0.01)


class TestMessages:
    def test_are_lines_of_text(self, capsys):
        logger.info("done: 5 % of x")
        logger.warning("late\x1b[2J")
        assert capsys.readouterr().err == "done: 5 % of x\nwarning: late\\u001b[2J\n"

    def test_are_lines_of_json(self, capsys):
        configure_log("json", "ptec score")
        logger.error("warning: two\nlines")
        configure_log("text", "")
        line = json.loads(capsys.readouterr().err)
        assert line.pop("at").endswith("+00:00")
        assert line == {"level": "error", "command": "ptec score", "message": "warning: two\nlines"}


class TestProgress:
    def test_is_logged_while_the_work_runs(self, soon, capsys):
        with progress("epoch 1", 8) as step:
            step(1)
            step(1)
            time.sleep(0.1)
        shown = capsys.readouterr()
        assert "epoch 1: 2 of 8, about " in shown.err
        assert not shown.out
        time.sleep(0.05)
        assert not capsys.readouterr().err

    def test_is_one_line_in_place_on_a_terminal(self, soon, monkeypatch, capsys):
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        described = threading.Semaphore(0)
        with watched(lambda _: described.release() or "half is [done]"):
            assert all(described.acquire(timeout=60) for _ in range(3))
        assert "half is [done]" in capsys.readouterr().err
