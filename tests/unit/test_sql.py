"""``ptec sql`` without Spark: values, outputs, errors, and the shell."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import zipfile
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from typer.testing import CliRunner, Result

from ptec_jobs import files
from ptec_jobs.cli import app
from ptec_jobs.site import Site
from ptec_jobs.sql.shell import statements
from tests.processes import command_of, environment
from tests.site import write_site

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROWS = [
    {
        "key": "a",
        "n": 1,
        "x": 0.1,
        "at": MOMENT,
        "names": ["=1+1", "Ж"],
        "counts": [("ok", 2)],
        "price": Decimal("1.50"),
    },
    {"key": "b", "n": 2**62, "x": None, "at": None, "names": None, "counts": [], "price": None},
]
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("n", pa.int64()),
        ("x", pa.float64()),
        ("at", pa.timestamp("us", "UTC")),
        ("names", pa.list_(pa.string())),
        ("counts", pa.map_(pa.string(), pa.int64())),
        ("price", pa.decimal128(10, 2)),
    ]
)


class Started(Exception):
    """Spark would start now."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A warehouse with one table, the working directory."""
    write_deltalake(tmp_path / "warehouse" / "ptec" / "numbers", pa.Table.from_pylist(ROWS, schema=SCHEMA))
    write_site(tmp_path, source={"table": "ptec.numbers", "key": "key"})
    monkeypatch.chdir(tmp_path)

    def start(*_: object) -> None:
        raise Started

    monkeypatch.setattr(Site, "session", start)
    return tmp_path


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, ["sql", *arguments], input=text)


def rows_of(*arguments: str) -> list[dict[str, Any]]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["rows"]


class TestValues:
    def test_are_those_of_the_table(self, folder: Path) -> None:
        first, second = rows_of("SELECT * FROM numbers ORDER BY key")
        assert first == {
            "key": "a",
            "n": 1,
            "x": 0.1,
            "at": "2026-01-02T03:04:05",
            "names": ["=1+1", "Ж"],
            "counts": {"ok": 2},
            "price": "1.50",
        }
        assert [second[name] for name in ("n", "x", "at", "names")] == [2**62, None, None, None]

    def test_sums_are_whole_and_columns_of_one_name_are_kept(self, folder: Path) -> None:
        assert rows_of("SELECT sum(n) AS n, 1 AS a, 2 AS a FROM numbers") == [{"n": 2**62 + 1, "a (2)": 1, "a (3)": 2}]

    def test_tables_and_columns_are_listed(self, folder: Path) -> None:
        assert rows_of("SHOW TABLES") == [{"database": "ptec", "name": "numbers"}]
        assert [row["column"] for row in rows_of("DESCRIBE ptec.numbers;")] == SCHEMA.names


class TestOutput:
    def test_prints_a_hundred_rows_unless_told_otherwise(self, folder: Path) -> None:
        query = "SELECT id FROM (SELECT explode(sequence(1, 150)) AS id)"
        assert len(rows_of(query)) == 100
        assert len(rows_of(query, "--limit", "120")) == 120
        assert "only the first 100 rows are shown" in run(query).stderr
        assert len(run(query, "--csv").stdout.splitlines()) == 151

    def test_csv(self, folder: Path) -> None:
        lines = run("SELECT key, x, names FROM numbers ORDER BY key", "--csv").stdout.splitlines()
        assert lines == ["key,x,names", 'a,0.1,"[""=1+1"", ""Ж""]"', "b,,"]

    def test_files_hold_the_same_rows(self, folder: Path) -> None:
        query = "SELECT key, n, names, '=1+1' AS formula FROM numbers ORDER BY key"
        for name in ("out.csv", "out.parquet", "out.xlsx"):
            assert rows_out(run(query, "--out", name, "--json")) == 2
        assert pq.read_table("out.parquet").to_pylist()[1] == {"key": "b", "n": 2**62, "names": None, "formula": "=1+1"}
        assert pd.read_csv("out.csv")["n"].tolist() == [1, 2**62]
        assert b"<f>" not in _sheet(folder / "out.xlsx")  # text stays text

    def test_sheet_that_is_too_long_is_refused(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "_MOST_IN_EXCEL", 1)
        result = run("SELECT key FROM numbers", "--out", "out.xlsx")
        assert (result.exit_code, "write .csv or .parquet" in result.stderr) == (2, True)

    @pytest.mark.parametrize(
        ("options", "rule"),
        [(["--out", "x.txt"], "--out must end in"), (["--csv", "--json"], "exclude each other")],
    )
    def test_wrong_options_are_refused(self, folder: Path, options: list[str], rule: str) -> None:
        result = run("SELECT 1", *options)
        assert (result.exit_code, rule in result.stderr) == (2, True)


class TestEngine:
    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM numbers",
            "SELECT * FROM numbers VERSION AS OF 0",
            "SELECT * FROM parquet.`/etc/passwd`",
            "SELECT ptec_score(key) FROM numbers",
            "SELECT no_such_function(key) FROM numbers",
        ],
    )
    def test_spark_runs_what_duckdb_does_not(self, folder: Path, statement: str) -> None:
        assert isinstance(run(statement, "--engine", "spark").exception, SystemExit)
        result = run(statement)
        assert "Spark starts" in result.stderr
        assert "unexpected Started" in result.stderr
        alone = run(statement, "--engine", "duckdb")
        assert (alone.exit_code, "PTEC-E016" in alone.stderr) == (2, True)

    def test_failing_row_is_not_quoted(self, folder: Path) -> None:
        result = run("SELECT CAST(concat('SECRET', key) AS INT) FROM numbers")
        assert (result.exit_code, "failed while it ran: Conversion error" in result.stderr) == (2, True)
        assert "SECRET" not in result.output

    def test_empty_warehouse_says_what_fills_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_site(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert "run ptec extract or ptec register first" in run("SELECT 1").stderr


class TestShell:
    def test_statements_end_with_a_semicolon(self) -> None:
        lines = ["", "help", "SELECT 1", "  AS a;", "exit ", "SELECT 2;"]
        assert list(statements(iter(lines))) == ["SELECT 1\n  AS a;"]
        assert list(statements(iter(["SELECT 3;", "SELECT 4"]))) == ["SELECT 3;", "SELECT 4"]

    def test_a_pipe_runs_all_and_ends_with_the_first_error(self, folder: Path) -> None:
        done = run("--csv", text="SELECT 1 AS a;\nSELECT 2 AS b;\n")
        assert (done.exit_code, done.stdout) == (0, "a\n1\nb\n2\n")
        failed = run("--csv", text="SELECT 1 AS a;\nSELECT c FROM numbers;\nSELECT 2 AS b;\n")
        assert (failed.exit_code, failed.stdout) == (2, "a\n1\n")

    def test_a_terminal_completes_names_and_remembers(self, folder: Path) -> None:
        ours, theirs = pty.openpty()
        mine = environment() | {"HOME": str(folder), "TERM": "dumb"}
        with subprocess.Popen(command_of(("sql",)), stdin=theirs, stdout=theirs, stderr=theirs, env=mine) as process:
            os.close(theirs)
            os.write(ours, b"SELECT wrong FROM numbers;\nSELECT sum(pri\t) AS total FROM num\t;\nexit\n")
            output = read_all(ours)
        os.close(ours)
        assert process.returncode == 0, output
        assert "no table or column 'wrong'" in output
        assert "1.50" in output
        history = (folder / ".ptec_sql_history").read_text(encoding="utf-8")
        assert "SELECT sum(price) AS total FROM numbers;" in history


def read_all(terminal: int) -> str:
    """Return what a program wrote to its terminal until it ended, which Linux reports as an error."""
    parts = []
    with suppress(OSError):
        while part := os.read(terminal, 4096):
            parts.append(part)
    return b"".join(parts).decode()


def rows_out(result: Result) -> int:
    assert result.exit_code == 0, result.output
    return int(json.loads(result.stdout)["rows"])


def _sheet(file: Path) -> bytes:
    with zipfile.ZipFile(file) as archive:
        return archive.read("xl/worksheets/sheet1.xml")
