"""How a command ends: in words, with an exit code, and without a company's text."""

from __future__ import annotations

import errno
import json
import math
import sqlite3
import sys
import time
from contextlib import nullcontext
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import typer
from py4j.protocol import Py4JError
from safetensors import SafetensorError
from typer.testing import CliRunner

from jobs import cli
from jobs.command import account, run_command, show_pairs, show_rows
from ptec_udf.errors import UserError
from ptec_udf.log import say_as


def ends(error: BaseException) -> int:
    """The exit code of a command whose work raises an error."""

    def work() -> dict[str, str]:
        raise error

    with pytest.raises(SystemExit) as caught:
        run_command(work, as_json=False, show=show_pairs)
    return int(caught.value.code or 0)


def caused_by(cause: BaseException) -> RuntimeError:
    """An error that has a cause."""
    error = RuntimeError("outer")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        caused_by(sqlite3.OperationalError("database or disk is full")),
        RuntimeError("pool error: A read-only user or a user in a read-only database is not permitted"),
    ],
    ids=["of the system", "of safetensors", "of a library", "of the catalog"],
)
def test_a_full_disk_is_told_in_words(error, capsys):
    assert ends(error) == 1
    assert (
        "no room is left on a disk, or it is read-only; make room and give the same command again"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("as_json", [True, False])
def test_a_full_disk_is_told_in_words_where_the_result_is_written(as_json, capsys, monkeypatch):
    with Path("/dev/full").open("w") as full, pytest.raises(SystemExit) as caught:
        monkeypatch.setattr(sys, "stdout", full)
        run_command(lambda: {"a": 1}, as_json=as_json, show=show_pairs)
    monkeypatch.undo()
    assert caught.value.code == 1
    assert "error: no room is left where the result was to be written" in capsys.readouterr().err


def test_help_shows_brackets_as_they_are_to_be_typed():
    shown = CliRunner().invoke(cli.app, ["score", "--help"], env={"COLUMNS": "200"}).output
    assert "--set 'shadows=[challenger]'" in shown
    for command in typer.main.get_command(cli.app).commands.values():
        for text in [command.help, *(getattr(one, "help", None) for one in command.params)]:
            assert "[" not in (text or "").replace("\\[", ""), "brackets are taken for markup without a backslash"


def test_of_an_unexpected_error_the_place_is_told_and_not_the_words(capsys):
    assert ends(ValueError("a secret text")) == 1
    told = capsys.readouterr().err
    assert "unexpected ValueError at the place above" in told
    assert "in work" in told
    assert "secret" not in told


def test_a_package_that_is_missing_is_named_with_what_brings_it(capsys):
    assert ends(ModuleNotFoundError("No module named 'peft'", name="peft.utils")) == 2
    assert "the Python package 'peft' is not installed; most come with an extra" in capsys.readouterr().err
    assert ends(ModuleNotFoundError("No module named 'training.x'", name="training.x")) == 1
    assert "unexpected ModuleNotFoundError at the place above" in capsys.readouterr().err


def test_times_are_utc_wherever_the_machine_is(monkeypatch, capsys):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    at = 1_792_887_200  # in the hour that comes twice
    run_command(lambda: {"at": datetime.fromtimestamp(at)}, as_json=False, show=show_pairs)
    assert datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") in capsys.readouterr().out


def test_a_command_does_not_go_on_in_the_form_of_the_one_before(capsys):
    say_as("json", "ptec score")
    assert ends(UserError(["scource: unknown key"])) == 2
    assert capsys.readouterr().err == "error: scource: unknown key\n"


@pytest.mark.parametrize(("code", "raises"), [(0, False), (None, False), (1, True), (2, True)])
def test_an_end_that_is_good_is_no_exception_to_who_calls_the_entry_point(monkeypatch, code, raises):
    def end() -> None:
        raise SystemExit(code)

    monkeypatch.setattr(cli, "app", end)
    with pytest.raises(SystemExit) if raises else nullcontext():
        cli.main()


def test_of_an_error_of_spark_it_is_told_what_is_known_and_not_its_words(capsys):
    file = "/t/name=Secret Ltd/part=secret/a.parquet"  # partitioned by what may be a text's
    words = f"[FAILED_READ_FILE.FILE_NOT_EXIST] Encountered error while reading file {file}. a secret text"
    assert ends(Py4JError(words)) == 1
    told = capsys.readouterr().err.replace("Secret", "secret")
    shown = "/t/name=.../part=.../a.parquet"
    assert f"error: Spark failed with a file that cannot be read, {shown}, at the place above" in told
    assert "secret" not in told


def test_an_account_without_a_name_is_told_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 987_654_321)
    assert account() == "uid 987654321"


def test_errors_that_are_scored_again_are_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.app(["errors", "--rescore", "--keys", "3"])
    assert caught.value.code == 2
    assert "--keys is for the list of errors" in " ".join(capsys.readouterr().err.split())


def test_nothing_in_a_value_or_a_name_is_taken_for_markup(capsys):
    hostile = "\\[/x] [bold]\\[word\\]"
    show_rows([{hostile: hostile}])
    show_pairs({"key": hostile})
    assert capsys.readouterr().out.count(hostile) == 3


def test_values_within_values_are_shown_as_words_and_no_line_is_folded_in_a_pipe(capsys):
    show_pairs({"counts": {"train": 2, "dev": 1}, "aliases": ["champion", "a [b]"], "nothing": None})
    show_rows([{"model_id": "f" * 64, "location": "/a" * 200, "aliases": ["champion"]}])
    told = capsys.readouterr().out
    assert "train 2, dev 1" in told
    assert "champion, a [b]" in told
    assert "f" * 64 in told
    assert "/a" * 200 in told
    assert "'" not in told


def test_a_long_value_leaves_no_blanks_after_the_others(capsys):
    show_pairs({"run_id": "a-1", "drifted": ["a label"] * 100, "retrain": False})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["run_id", "drifted", "retrain"]
    assert all(line == line.rstrip() for line in lines)


def test_what_json_has_no_form_for_is_text_or_null(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"rows": [{"by_day": {date(2026, 1, 2): math.nan, None: [math.inf, 1.5]}, "at": date(2026, 1, 3)}]}
    run_command(lambda: found, as_json=True, show=show_pairs)
    rows = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["rows"]
    assert rows == [{"by_day": {"2026-01-02": None, "None": [None, 1.5]}, "at": "2026-01-03"}]


@pytest.mark.parametrize("as_json", [True, False])
def test_result_with_a_fault_is_printed_and_ends_with_1(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    def finish(said: str | None) -> None:
        run_command(lambda: {"found": 5}, as_json=as_json, show=show_pairs, fault_of=lambda result: said)

    finish(None)
    before = capsys.readouterr()
    assert ("found" in before.out, before.err) == (True, "")
    with pytest.raises(SystemExit) as caught:
        finish("it is past the tolerance")
    assert caught.value.code == 1
    after = capsys.readouterr()
    assert (after.out, after.err) == (before.out, "error: it is past the tolerance\n")
