"""What reads our tables from outside reads what Spark reads: the commands of docs/integrations.md are run."""

from __future__ import annotations

import ast
import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyhive import hive

from tests.documents.pages import blocks
from tests.processes import ROOT, TIMEOUT_S, environment, free_port, ptec, result_of, wait_for_port

pytestmark = pytest.mark.long

PAGE = ROOT / "docs" / "integrations.md"
COMPANIES, TOKENS = "count(*)", "sum(n_tokens)"


def block(note: str, language: str) -> str:
    (found,) = [one.text for one in blocks(language) if one.page == PAGE and one.note == note]
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside") / "site"
    command = [sys.executable, "-m", "tests.prepare", str(folder), "80"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=TIMEOUT_S, capture_output=True)
    assert result_of(ptec("score", "--config", "ptec.yaml", "--json", cwd=folder))["outcome"] == "done"
    return folder


@pytest.fixture(scope="module")
def expected(site: Path) -> dict[str, Any]:
    """What Spark itself says."""
    query = f"SELECT {COMPANIES} AS companies, {TOKENS} AS tokens FROM current_scores"
    (row,) = result_of(ptec("sql", query, "--config", "ptec.yaml", "--json", cwd=site))["rows"]
    assert row["companies"] == 90
    return row


@pytest.fixture(scope="module")
def screens(site: Path) -> list[tuple[str, int, float]]:
    """What Spark itself says of each label: its companies, and its threshold."""
    columns = "label, count(*) AS companies, min(threshold) AS threshold"
    query = f"SELECT {columns} FROM label_scores WHERE has_label GROUP BY label ORDER BY label"
    rows = result_of(ptec("sql", query, "--config", "ptec.yaml", "--json", cwd=site))["rows"]
    assert len(rows) > 1
    return [tuple(row.values()) for row in rows]


@pytest.fixture(scope="module")
def port(site: Path, expected: dict[str, Any], screens: list[tuple[str, int, float]]) -> Iterator[int]:
    """A port on which the page's own command serves the warehouse."""
    del expected, screens  # asked before the server has the warehouse
    number = free_port()
    with (site / "server.log").open("w") as log:
        command = f"exec {ROOT}/{block('serve', 'sh').replace('10000', str(number))}"
        server = subprocess.Popen(["bash", "-c", command], cwd=site, env=shell(), stdout=log, stderr=log)
    try:
        wait_for_port(number, server)
        yield number
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def shell() -> dict[str, str]:
    """An environment with the programs of this interpreter first."""
    return environment() | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_who_needs_no_password_is_on_this_machine(port: int) -> None:
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            if state == "0A" and int(address.rpartition(":")[2], 16) == port:
                listening.append(address.partition(":")[0])
    # 127.0.0.1 as the kernel writes it, the same as an address of version 6, and ::1.
    assert listening
    assert set(listening) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_beeline_gives_the_same_counts_and_sums(site: Path, port: int, expected: dict[str, Any]) -> None:
    command = block("client", "sh").replace("10000", str(port))
    done = subprocess.run(["bash", "-euc", command], cwd=site, env=shell(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [line.rpartition("> ")[2] for line in done.stdout.splitlines()]  # its prompt stands before the first
    (row,) = csv.DictReader([line for line in lines if re.match(r"(companies|\d+),", line)])
    assert {name: int(value) for name, value in row.items()} == expected


def test_a_db_api_client_sees_views_functions_and_parameters(site: Path, port: int, expected: dict[str, Any]) -> None:
    code = block("client", "python").replace("10000", str(port))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=site, env=shell(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout) == []  # the model has no such label
    with hive.connect("127.0.0.1", port, username="analyst", auth="NONE", database="ptec") as connection:
        cursor = connection.cursor()

        def ask(query: str, *values: Any) -> list[tuple[Any, ...]]:
            cursor.execute(query, values or None)
            return cursor.fetchall()

        assert ask(f"SELECT {COMPANIES}, {TOKENS} FROM current_scores") == [tuple(expected.values())]
        by_label = "SELECT label, count(*) FROM label_scores WHERE has_label GROUP BY label ORDER BY 2 DESC LIMIT 1"
        ((label, n),) = ask(by_label)
        assert ask("SELECT count(*) FROM screen(%s, NULL)", label) == [(n,)]
        assert ask("SELECT count(*) FROM screen(%s, NULL)", "o'clock\"; --") == [(0,)]
        assert ask("SELECT count(*) FROM why_changed WHERE label = %s AND entered", label) == [(n,)]
        key = ask("SELECT key FROM screen(%s, NULL) LIMIT 1", label)[0][0]
        assert label in {row[1] for row in ask("SELECT * FROM why_changed(%s)", key)}


def test_deltalake_duckdb_and_polars_give_the_same_counts_sums_and_joins(
    site: Path, expected: dict[str, Any], screens: list[tuple[str, int, float]]
) -> None:
    code = block("files", "python")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=site, env=shell(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[list[tuple[Any, ...]]]] = {}
    for line in done.stdout.splitlines():
        reader, printed = line.split(" ", 1)
        found.setdefault(reader, []).append(ast.literal_eval(printed))
    assert found.keys() == {"deltalake", "DuckDB", "Polars"}
    for reader, (counted, joined) in found.items():
        assert counted == [tuple(expected.values())], reader
        assert [(name, n, pytest.approx(threshold)) for name, n, threshold in joined] == screens, reader
