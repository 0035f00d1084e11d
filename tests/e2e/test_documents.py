"""README.md and docs/*.md tell the truth: their commands run, what they name exists, their links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml

from jobs.cli import app
from ptec_udf.config_file import load_config
from ptec_udf.warehouse.schemas import SCHEMAS
from ptec_udf.warehouse.views import VIEWS
from tests.e2e import documents
from tests.e2e.documents import CONFIGS, PAGES, ROOT, blocks

RUN_IN_ORDER = (
    "ml-engineer.md",
    "choosing.md",
    "training.md",
    "artifact.md",
    "retraining.md",
    "data-engineer.md",
    "failures.md",
    "operations.md",
    "watching.md",
    "analyst.md",
)
SPARK_SQL = "analyst.sql"
COMMANDS = [
    pytest.param(words, id=f"{block.name} {words[0]}")
    for page in PAGES
    for block in blocks(page, "sh", "console", "")
    for words in documents.commands(block)
]
COLUMNS = {"company_id", "name", "one_liner", "tags", "industries"}


def every_page() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


@every_page()
def test_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for target in documents.links(page):
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        if not place.exists() or (anchor and anchor not in documents.anchors(place)):
            broken.append(target)
    assert not broken


@every_page()
def test_commands_name_settings_that_exist(page: Path) -> None:
    for block in blocks(page, "sh", "console"):
        for command, *words in documents.commands(block):
            if command not in CONFIGS:
                continue
            load_config(CONFIGS[command], ROOT / "conf" / f"{command}.yaml", documents.overrides(words))


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_have_the_options_that_are_shown(words: list[str]) -> None:
    name, *rest = words
    typer.main.get_command(app).commands[name].make_context(name, rest)  # type: ignore[attr-defined]


@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "benchmarks").glob("*.yaml")), ids=lambda file: file.stem)
def test_configurations_of_what_was_measured_are_read(file: Path) -> None:
    load_config(CONFIGS["benchmark"], file)


@every_page()
def test_yaml_is_a_part_of_the_configuration_that_it_names(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "yaml"):
        assert block.note in CONFIGS, f"{block.name}: write ```yaml extract, train or score"
        shipped = yaml.safe_load((ROOT / "conf" / f"{block.note}.yaml").read_text(encoding="utf-8"))
        (tmp_path / "part.yaml").write_text(yaml.safe_dump(shipped | yaml.safe_load(block.text)), encoding="utf-8")
        load_config(CONFIGS[block.note], tmp_path / "part.yaml")


@every_page()
def test_settings_in_text_exist(page: Path) -> None:
    known = documents.settings()
    sections = {name.partition(".")[0] for name in known if "." in name}
    text = documents.prose(page)
    named = {name for name in re.findall(r"`(\w+\.(?!py`)\w+)`", text) if name.partition(".")[0] in sections}
    named |= {name for cells in documents.tables(text, "Setting") for name in documents.names(cells)}
    assert named <= known


@pytest.mark.parametrize(
    ("command", "heading", "page"),
    [
        ("train", "Setting", "training.md"),
        ("search", "Setting of a search", "choosing.md"),
        ("benchmark", "Setting of a benchmark", "choosing.md"),
        ("evaluate", "Setting of an evaluation", "retraining.md"),
        ("recalibrate", "Setting of a recalibration", "retraining.md"),
    ],
)
def test_every_setting_is_explained(command: str, heading: str, page: str) -> None:
    text = documents.prose(ROOT / "docs" / page)
    told = {name for cells in documents.tables(text, heading) for name in documents.names(cells)}
    wanted = {name for name in documents.config_names(command) if not name.startswith("recipe.")}  # those of train
    assert told == {name for name in wanted if not any(other.startswith(f"{name}.") for other in wanted)}


def test_make_targets_exist() -> None:
    shown = {target for page in PAGES for target in re.findall(r"\bmake ([a-z-]+)", _code(page))}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert {"demo", "test"} <= shown <= targets


@pytest.mark.parametrize("table", SCHEMAS)
def test_columns_of_tables_are_those_of_the_schema(table: str) -> None:
    assert _documented_columns(table) == SCHEMAS[table].names


@pytest.mark.parametrize("view", sorted(VIEWS))
def test_columns_of_views_are_those_of_the_sql(view: str) -> None:
    sql = (resources.files("ptec_udf.warehouse") / "sql" / f"{view}.sql").read_text(encoding="utf-8")
    assert set(_documented_columns(view)) == set(re.findall(r"^  (\w+) COMMENT", sql, re.M))


def test_quoted_messages_are_those_of_the_code() -> None:
    files = [file for room in ("ptec_udf", "jobs") for file in sorted((ROOT / room).rglob("*.py"))]
    # What explains a setting is no message, though it may use its words.
    source = re.sub(r'description=\s*(f?"[^"\n]*"\s*)+', "", "\n".join(file.read_text("utf-8") for file in files))
    page = documents.prose(ROOT / "docs" / "failures.md")
    quoted = [name for heading in ("it says", "`error` of a company") for name in _quoted(page, heading)]
    assert [message for message in quoted if message not in source] == []


def _quoted(page: str, heading: str) -> list[str]:
    """Messages in the first column of a table; there are some."""
    found = documents.names(next(documents.tables(page, heading)))
    assert found
    return found


@pytest.mark.long
def test_commands_run_in_the_order_of_the_pages(tmp_path: Path) -> None:
    environment = _scratch(tmp_path)
    for name in RUN_IN_ORDER:
        page = ROOT / "docs" / name
        for block in blocks(page, "sh"):
            _run(["bash", "-euo", "pipefail", "-c", block.text], block.name, tmp_path, environment)
        for block in blocks(page, "python"):
            _run([sys.executable, "-c", block.text], block.name, tmp_path, environment)
    nights = _sql("SELECT outcome FROM run_summary ORDER BY started", tmp_path, environment)
    # The first model; tags and its shadow; other thresholds; the data engineer's first try; after the way back, and
    # failed companies again.
    assert [row["outcome"] for row in nights] == ["done"] * 4 + ["nothing_to_do", "done", "done"]
    reasons = _sql("SELECT DISTINCT reason FROM why_changed", tmp_path, environment)
    assert {"model", "threshold"} <= {row["reason"] for row in reasons}
    statements = [block.text for page in PAGES for block in blocks(page, "sql")]
    (tmp_path / SPARK_SQL).write_text("".join(statements), encoding="utf-8")
    _run(_spark_sql(tmp_path), "the SQL of the pages", tmp_path, environment)


def _scratch(folder: Path) -> dict[str, str]:
    """Make what the pages start from: the files of a checkout and a small set of start-ups; return the environment."""
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("__pycache__"))
    _replace(folder / "conf" / "train.yaml", "epochs: 6", "epochs: 1")
    _replace(folder / "conf" / "search.yaml", "recipe: {}", "recipe: {stopping: {epochs: 1}}")
    for setting in ("trials: 20", "random_trials: 10", "confirmed: 3"):
        _replace(folder / "conf" / "search.yaml", f"\n{setting}", f"\n{setting.partition(' ')[0]} 1")
    _replace(folder / "conf" / "extract.yaml", "min_positives: 15", "min_positives: 10")
    # Models of one epoch are no better than each other on few rows, so the gate asks for next to nothing.
    for limit in (
        "min_gain: -0.01",
        "min_rows: 100",
        "max_label_loss: 0.1",
        "max_decision_loss: 0.02",
        "max_ece: 0.04",
    ):
        name = limit.partition(":")[0]
        _replace(folder / "conf" / "evaluate.yaml", limit, f"{name}: {-1 if name == 'min_gain' else 1}")
    _replace(folder / "conf" / "recalibrate.yaml", "min_rows: 100", "min_rows: 10")
    companies = (ROOT / "jobs" / "demo" / "companies.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in companies]
    (folder / "startups").mkdir()
    for split in ("train", "dev"):
        part = [_startup(row) for row in rows if row["split"] == split]
        pq.write_table(pa.Table.from_pylist(part), folder / "startups" / f"{split}.parquet")
    programs = str(Path(sys.executable).parent)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "STARTUPS": str(folder / "startups")}


def _startup(company: dict[str, Any]) -> dict[str, Any]:
    """Name a demo company's columns as the pages do."""
    return {name: company[name] for name in COLUMNS} | {"long_description": company["description"]}


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def _run(command: list[str], name: str, folder: Path, environment: dict[str, str]) -> str:
    """Run one command in the scratch folder; fail with the end of what it said."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def _sql(query: str, folder: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    return json.loads(_run(["ptec", "sql", query, "--json"], query, folder, environment))["rows"]


def _spark_sql(folder: Path) -> list[str]:
    """The page's own spark-sql command, with a file in place of its one statement."""
    text = next(block.text for block in blocks(ROOT / "docs" / "analyst.md", "sh") if "spark-sql" in block.text)
    return ["bash", "-euc", re.sub(r'-e ".*"', f"-f {folder / SPARK_SQL}", text)]


def _code(page: Path) -> str:
    """Return all code of a page, in blocks and in text."""
    shown = "\n".join(block.text for block in blocks(page, "sh", "console"))
    return shown + "\n".join(re.findall(r"`[^`\n]+`", documents.prose(page)))


def _documented_columns(name: str) -> list[str]:
    """Return the columns that the page of tables lists under a heading."""
    text = documents.prose(ROOT / "docs" / "tables.md")
    section = text.partition(f"\n### `{name}`\n")[2].partition("\n### ")[0]
    return documents.names(next(documents.tables(section, "Column")))
