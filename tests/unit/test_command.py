"""How a command ends: with a result, one line for each error, an exit code, and without a company's text."""

from __future__ import annotations

import errno
import json
import math
from datetime import date

import pytest
import typer
from py4j.protocol import Py4JError
from safetensors import SafetensorError
from typer.testing import CliRunner

from ptec_jobs import cli
from ptec_jobs.command import run_command
from ptec_jobs.output import show
from ptec_udf import errors
from ptec_udf.errors import PtecError, UserError
from ptec_udf.log import configure_log

COMMANDS = (
    *("init", "extract", "sql", "demo", "train", "predict", "search", "benchmark", "evaluate", "register"),
    *(
        "promote",
        "rollback",
        "models",
        "recalibrate",
        "score",
        "drift",
        "errors",
        "estimate",
        "verify",
        "report",
        "housekeeping",
    ),
)


def ends(error: BaseException, *, debug: bool = False) -> int:
    """Return the exit code of a command whose work raises an error."""

    def work() -> dict[str, str]:
        raise error

    with pytest.raises(SystemExit) as caught:
        run_command(work, debug=debug)
    return int(caught.value.code or 0)


class TestHelp:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]

    def test_all_commands_are_listed_in_panels(self):
        assert sorted(self.commands) == sorted(COMMANDS)
        shown = CliRunner().invoke(cli.app, ["--help"]).output
        assert [panel in shown for panel in ("Data", "Model", "Nightly", "Exit codes")] == [True] * 4

    @pytest.mark.parametrize("name", COMMANDS)
    def test_shared_options(self, name):
        options = {option for one in self.commands[name].params for option in one.opts}
        shared = {"--json", "--debug"} | ({"--config", "--set"} if name not in ("init", "demo", "predict") else set())
        assert shared <= options


class TestErrors:
    def test_exit_codes(self):
        kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PtecError)]
        codes = {kind: kind.exit_code for kind in kinds}
        assert codes == {kind: 2 if issubclass(kind, UserError) else 1 for kind in codes}

    def test_user_error_is_one_line_each(self, capsys):
        configure_log("json", "ptec score")  # the form of an earlier command of this process
        assert ends(UserError(["scource: unknown key", "out: must be set"])) == 2
        assert capsys.readouterr().err == "error: PTEC-E010 scource: unknown key\nerror: PTEC-E010 out: must be set\n"

    @pytest.mark.parametrize("debug", [False, True])
    def test_unexpected_error_names_the_place_only(self, debug, capsys):
        assert ends(ValueError("a secret text"), debug=debug) == 1
        shown = capsys.readouterr().err
        assert "error: PTEC-E001 unexpected ValueError in tests/unit/test_command.py:" in shown
        assert ("in work" in shown) == debug
        assert "secret" not in shown

    def test_spark_error_shows_no_partition_value(self, capsys):
        file = "/t/name=Secret Ltd/part=secret/a.parquet"
        words = f"[FAILED_READ_FILE.FILE_NOT_EXIST] Encountered error while reading file {file}. a secret text"
        assert ends(Py4JError(words)) == 1
        shown = capsys.readouterr().err.replace("Secret", "secret")
        assert "error: PTEC-E001 Spark failed with a file that cannot be read, /t/name=.../part=.../a.parquet," in shown
        assert "secret" not in shown

    def test_missing_package_is_named_with_extras(self, capsys):
        assert ends(ModuleNotFoundError("No module named 'peft'", name="peft.utils")) == 2
        assert "the Python package 'peft' is not installed; most come with an extra" in capsys.readouterr().err
        assert ends(ModuleNotFoundError("No module named 'ptec_training.x'", name="ptec_training.x")) == 1
        assert "unexpected ModuleNotFoundError" in capsys.readouterr().err

    @pytest.mark.parametrize("is_cause", [False, True])
    @pytest.mark.parametrize(
        "error",
        [
            OSError(errno.ENOSPC, "No space left on device"),
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        ],
        ids=["system", "safetensors"],
    )
    def test_full_disk(self, error, is_cause, capsys):
        outer = RuntimeError("outer")
        outer.__cause__ = error
        assert ends(outer if is_cause else error) == 1
        assert "error: PTEC-E001 a disk is full; free some space" in capsys.readouterr().err


class TestResult:
    @pytest.mark.parametrize("as_json", [True, False])
    def test_verdict_is_printed_after_the_result(self, as_json, capsys):
        run_command(lambda: {"found": 5}, as_json=as_json)
        before = capsys.readouterr()
        assert ("found" in before.out, before.err) == (True, "")
        with pytest.raises(SystemExit) as caught:
            run_command(lambda: {"found": 5}, as_json=as_json, judge=lambda _: ("time to retrain", 3))
        assert caught.value.code == 3
        after = capsys.readouterr()
        assert (after.out, after.err) == (before.out, "error: time to retrain\n")

    def test_json_has_no_nan_and_text_keys(self, capsys):
        found = {"rows": [{"by_day": {date(2026, 1, 2): math.nan, None: [math.inf, 1.5]}, "raw": bytearray(b"\xff")}]}
        run_command(lambda: found, as_json=True)
        rows = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["rows"]
        assert rows == [{"by_day": {"2026-01-02": None, "None": [None, 1.5]}, "raw": "_w=="}]

    def test_pairs_come_before_tables(self, capsys):
        show(
            {"runs": [{"id": "a", "n": 1}, {"id": "b", "more": [1.23456, 2]}], "labels": 7, "counts": {"a": 1, "b": 2}}
        )
        shown = capsys.readouterr().out
        assert shown.startswith("labels  7\ncounts  a 1, b 2\n\nruns\n")
        assert "1.235, 2" in shown

    def test_markup_is_printed_as_text(self, capsys):
        hostile = "\\[/x] [bold]\\[word\\]"
        show({"rows": [{hostile: hostile}], "key": hostile})
        assert capsys.readouterr().out.count(hostile) == 3

    def test_pipe_gets_whole_values_and_short_lists(self, capsys):
        show({"models": [{"model_id": "f" * 64, "location": "/a" * 200}], "drifted": ["x"] * 300, "nothing": None})
        shown = capsys.readouterr().out
        assert "f" * 64 in shown
        assert "/a" * 200 in shown
        assert "280 more" in shown
        assert "nothing" not in shown
