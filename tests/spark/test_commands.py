"""Commands with wrong configuration or input: exit 2, every fault named, no stack trace, nothing written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from jobs.cli import app
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.artifact_format import ADAPTER, HEAD, MANIFEST
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.embedded import FOLDER_SETTING
from tests.receiver import Receiver
from tests.spark.nights import Site, companies
from tests.tiny import tiny_artifact
from tests.variants import variant


def run(site: Site, *arguments: str, **score: Any) -> Result:
    """Run a command in this process, on the session of the tests."""
    where = {"folder": site.spark.conf.get(FOLDER_SETTING), "database": site.warehouse.database}
    content = {"warehouse": where, "source": {"table": site.table, "key": "key"}, **score}
    if arguments[0] in ("register", "promote", "models", "sql"):
        content = {"warehouse": where, **{name: of for name, of in score.items() if name == "engine"}}
    config = site.folder / "config.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    return CliRunner().invoke(app, [*arguments, "--config", str(config)])


def refused(result: Result, *faults: str) -> None:
    """Check that a command ended as a wrong one must."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("error: ")]
    for fault in faults:
        assert any(re.search(fault, line) for line in lines), result.output
    assert "Traceback" not in result.output
    assert "  File " not in result.output


WRONG = (
    ({"scource": {}, "engine": {"dtyp": "float32", "batch_tokens": "many"}}, ["scource", "dtype", "batch_tokens"]),
    ({"source": {"table": "nowhere.to_be_found", "key": "key"}}, ["nowhere.to_be_found"]),
    ({"source": {"path": "/no/such/folder", "key": "key"}}, ["/no/such/folder"]),
    ({"source": {"table": "a", "path": "b", "key": "key"}}, ["exactly one of table and path"]),
    ({"model": {"id": "feedfeed"}}, ["feedfeed"]),
    ({"model": {"alias": "nobody"}}, ["nobody"]),
    ({"model": {"alias": "nobody"}, "source": {"path": "/no/such", "key": "key"}}, ["nobody", "/no/such"]),
)
"""Changes of a configuration, and what the command must name."""


def test_a_night_says_and_tells_how_it_ended(site: Site, receiver: Receiver) -> None:
    notice = {"webhook": receiver.url, "log": "json"}
    failed = run(site, "score", notice=notice)
    assert failed.exit_code == 2
    assert [(one["event"], one["command"]) for one in receiver.got] == [("failed", "ptec score")]
    said = [json.loads(line)["message"] for line in failed.stderr.splitlines() if line.startswith("{")]
    assert said[-2].startswith("ptec score ended: outcome failed")
    assert said[-1].startswith("no model has the alias 'champion'")
    site.champion()
    done = run(site, "score", notice=notice)
    assert (done.exit_code, len(receiver.got)) == (0, 1)
    said = json.loads(done.stderr.splitlines()[-1])["message"]
    assert said.startswith("ptec score ended: run_id ")
    assert ", outcome done, counts (ok 30), " in said


def test_wrong_configurations_of_score(site: Site) -> None:
    site.champion()
    for change, faults in WRONG:
        refused(run(site, "score", **change), *faults)
    assert site.rows("runs") == []
    assert site.rows("scores") == []


def test_missing_columns_and_unknown_fields_are_named_together(site: Site) -> None:
    site.champion()
    source = {"table": site.table, "key": "key", "columns": {"about": "description", "shape": "x"}}
    refused(run(site, "score", source=source), "'description'", "'shape'")
    missing_key = {"table": site.table, "key": "company_id"}
    refused(run(site, "score", source=missing_key), "'company_id'")
    assert site.rows("runs") == []


def test_version_that_does_not_exist_is_refused(site: Site) -> None:
    site.champion()
    source = {"table": site.table, "key": "key", "version": 77}
    refused(run(site, "score", source=source), "77")


def test_source_that_spark_cannot_open_is_refused(site: Site) -> None:
    site.champion()
    refused(run(site, "score", source={"path": "s3://bucket/companies", "key": "key"}), "s3")
    site.spark.sql(f"CREATE TABLE {site.warehouse.database}.base (key string) USING parquet")
    site.spark.sql(f"CREATE VIEW {site.warehouse.database}.over AS SELECT * FROM {site.warehouse.database}.base")
    site.spark.sql(f"DROP TABLE {site.warehouse.database}.base")
    refused(run(site, "score", source={"table": f"{site.warehouse.database}.over", "key": "key"}), "over.*base")


def test_unknown_section_is_named_by_commands_that_need_only_the_warehouse(site: Site) -> None:
    refused(run(site, "models", "--set", "warehose.folder=x"), "warehose")


def test_table_that_lacks_a_column_is_mended_by_the_statement_that_is_shown(site: Site) -> None:
    name = site.warehouse.name("aliases")
    smaller = site.spark.table(name).drop("why")
    smaller.write.format("delta").mode("overwrite").option("overwriteSchema", "true").saveAsTable(name)
    result = run(site, "models")
    refused(result, "column why")
    statement = re.search(r"ALTER TABLE .*", result.output)
    assert statement is not None
    assert run(site, "sql", statement[0]).exit_code == 0
    assert run(site, "models").exit_code == 0


@pytest.mark.parametrize("name", [MANIFEST, ADAPTER, HEAD])
def test_tampered_artifact_is_refused_with_the_file(site: Site, tmp_path: Path, name: str) -> None:
    artifact = tiny_artifact(tmp_path / "fresh", "bert", "deep", seed=3)
    data = bytearray((artifact / name).read_bytes())
    data[-3] ^= 1
    (artifact / name).write_bytes(bytes(data))
    refused(run(site, "register", str(artifact)), re.escape(name))
    assert site.rows("models") == []


def test_champion_that_is_tampered_with_later_is_refused(site: Site) -> None:
    site.champion()
    location = site.warehouse.read("models").first()["location"]
    (Path(location) / HEAD).write_bytes(b"broken")
    refused(run(site, "score"), re.escape(HEAD))
    assert site.rows("scores") == []


def test_unknown_artifact_format_is_refused(site: Site, tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "fresh", "bert", "deep", seed=4)
    manifest = json.loads((artifact / MANIFEST).read_text(encoding="utf-8"))
    (artifact / MANIFEST).write_text(json.dumps(manifest | {"format_version": 99}), encoding="utf-8")
    refused(run(site, "register", str(artifact)), "format_version must be 1, was: 99")


def test_promoting_a_model_without_its_backbone_moves_nothing(site: Site, tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path / "gone", "bert", "deep", seed=6)
    registered = run(site, "register", str(artifact))
    assert registered.exit_code == 0
    assert re.search(r"^reads +name, about *$", registered.stdout, re.MULTILINE)
    (tmp_path / "gone" / "bert" / "model.safetensors").unlink()
    model_id = site.warehouse.read("models").first()["model_id"]
    refused(run(site, "promote", model_id), "backbone")
    assert site.rows("aliases") == []


def test_sql_runs_and_explains(site: Site) -> None:
    site.champion()
    result = run(site, "sql", "SELECT ptec_score('solar panels') AS p, ptec_score(NULL) AS n", "--json")
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout.strip().splitlines()[-1])["rows"][0]
    assert all(0 <= value <= 1 for value in row["p"].values())
    assert row["n"] is None
    refused(run(site, "sql", "SELECT nothing FROM nowhere"), "nowhere")
    # Delta's refusal of a subquery has no message that PySpark could ask for.
    subquery = f"UPDATE {site.table} SET name = 'x' WHERE key IN (SELECT key FROM {site.table} ORDER BY key LIMIT 2)"
    refused(run(site, "sql", subquery), "[Ss]ubquer")


def test_sql_that_a_row_makes_fail_is_refused_without_quoting_the_row(site: Site, jvm_log: Callable[[], str]) -> None:
    secret = "'a\\nptec_udf.errors.PtecError: secret'"
    said = {
        f"CAST({secret} || about AS INT)": "CAST_INVALID_INPUT, at .*",
        "CAST(about AS INT)": r"CAST_INVALID_INPUT, at CAST\(about AS INT\)",
        "to_timestamp(about, 'yyyy')": "CANNOT_PARSE_TIMESTAMP",
        "raise_error(about)": "USER_RAISED_EXCEPTION",
        "assert_true(about = '', 'no text is empty')": "no text is empty",
    }
    for function, why in said.items():
        result = run(site, "sql", f"SELECT {function} FROM {site.table}")
        refused(result, f"^error: the statement failed while it ran: {why}$")
        assert not any(about in result.output for _, _, about in companies(20))
    logged = jvm_log()
    assert not any(about in logged for _, _, about in companies(20))


def test_sql_says_why_delta_refuses(site: Site) -> None:
    refused(
        run(site, "sql", f"VACUUM {site.table} RETAIN 0 HOURS"),
        "cannot be run: .DELTA_VACUUM_RETENTION_PERIOD_TOO_SHORT. The",
    )
    refused(run(site, "sql", f"RESTORE TABLE {site.table} TO VERSION AS OF 7"), "Available versions")


def test_a_version_whose_files_are_gone_is_refused_with_the_file(site: Site) -> None:
    location = site.spark.sql(f"DESCRIBE DETAIL {site.table}").first()["location"]
    for file in Path(location.removeprefix("file:")).glob("*.parquet"):
        file.unlink()
    refused(run(site, "sql", f"SELECT name FROM {site.table} VERSION AS OF 0"), r"cannot be read, \S+\.parquet")


def test_ptec_score_of_a_text_that_is_not_valid_is_refused_without_quoting_it(
    site: Site, jvm_log: Callable[[], str]
) -> None:
    site.champion()
    broken = "cast(X'5345435245542073756EFF41' AS string)"
    result = run(site, "sql", f"SELECT ptec_score({broken}) AS p")
    refused(result, r"make_valid_utf8\(text\)")
    assert "SECRET" not in result.output + jvm_log()
    mended = run(site, "sql", f"SELECT size(ptec_score(make_valid_utf8({broken}))) AS n", "--json")
    assert json.loads(mended.stdout.strip().splitlines()[-1])["rows"] == [{"n": 5}]


@pytest.mark.long
def test_ptec_score_agrees_with_the_scores_table_where_calibration_is_a_curve(site: Site) -> None:
    curve = [(-40.0, -50.0), (0.0, 0.25), (40.0, 30.0)]
    bent = variant(tiny_artifact(site.folder, "bert", "deep"), site.folder / "bent", calibrator="isotonic", curve=curve)
    model_id = registry.register(site.warehouse, bent, site.folder / "keep", "bent")
    registry.promote(site.warehouse, model_id, alias="champion", who="test", why="", check=lambda *_: None)
    site.night()
    key, name, about = companies(20)[0]
    model = site.warehouse.read("models").first()
    text = model["template"].format(name=name, about=about)
    result = run(site, "sql", f"SELECT ptec_score('{text}') AS p", "--json", engine={"dtype": "float32"})
    scored = json.loads(result.stdout.strip().splitlines()[-1])["rows"][0]["p"]
    row = site.scores()[key]
    assert scored == pytest.approx(dict(zip(model["labels"], row["probabilities"], strict=True)), abs=2e-5)
    labels = load_artifact(model["location"]).manifest.labels
    lines = np.array([[one.scale, one.offset] for one in labels])
    bent_log_odds = np.interp(lines[:, 0] * row["logits"] + lines[:, 1], *zip(*curve, strict=True))
    np.testing.assert_allclose(row["probabilities"], 1 / (1 + np.exp(-bent_log_odds)), atol=1e-6)
