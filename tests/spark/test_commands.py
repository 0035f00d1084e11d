"""Commands on a warehouse: results, exit codes, all errors at once, nothing written by a refused command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ptec_jobs.cli import app
from ptec_udf.model.artifact import HEAD
from ptec_udf.warehouse.embedded import FOLDER_SETTING
from tests.receiver import Receiver
from tests.site import write_site
from tests.spark.support import Site, companies
from tests.tiny import tiny_artifact


def run(site: Site, *arguments: str, **sections: Any) -> Result:
    """Run a command in this process, on the session of the tests."""
    where = {"folder": site.spark.conf.get(FOLDER_SETTING), "database": site.warehouse.database}
    given = {"warehouse": where, "source": {"table": site.table, "key": "key"}} | sections
    return CliRunner().invoke(app, [*arguments, "--config", str(write_site(site.folder, **given))])


def result_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.strip().splitlines()[-1])


def refused(result: Result, *errors: str) -> None:
    """Check that a command ended with a user error: one line each, without stack frames."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("error: ")]
    for error in errors:
        assert any(re.search(error, line) for line in lines), result.output
    assert "  File " not in result.output


class TestScore:
    WRONG = (
        ({"scource": {}, "engine": {"dtyp": "float32", "batch_tokens": "many"}}, ["scource", "dtype", "batch_tokens"]),
        ({"source": {"table": "nowhere.to_be_found", "key": "key"}}, ["nowhere.to_be_found"]),
        ({"source": {"table": "a", "path": "b", "key": "key"}}, ["exactly one of table and path"]),
        ({"model": {"alias": "nobody"}, "source": {"path": "/no/such", "key": "key"}}, ["nobody", "/no/such"]),
        ({"source": {"path": "s3://bucket/companies", "key": "key"}}, ["s3"]),
    )

    def test_refusals_write_nothing(self, site: Site) -> None:
        site.champion()
        for sections, errors in self.WRONG:
            refused(run(site, "score", **sections), *errors)
        columns = {"about": "description", "shape": "x"}
        source = {"table": site.table, "key": "key", "columns": columns}
        refused(run(site, "score", source=source), "'description'", "'shape'")
        refused(run(site, "score", "--source-version", "77"), "77")
        refused(run(site, "score", "--model", "feedfeed"), "feedfeed")
        assert site.rows("runs") == []
        assert site.rows("scores") == []

    def test_tampered_champion(self, site: Site) -> None:
        site.champion()
        location = site.warehouse.read("models").first()["location"]
        (Path(location) / HEAD).write_bytes(b"broken")
        refused(run(site, "score"), re.escape(HEAD))
        assert site.rows("scores") == []

    @pytest.mark.long
    def test_notice_of_its_end(self, site: Site, receiver: Receiver) -> None:
        notice = {"webhook": receiver.url, "log": "json"}
        failed = run(site, "score", notice=notice)
        assert failed.exit_code == 2
        assert [(one["event"], one["command"]) for one in receiver.got] == [("failed", "ptec score")]
        site.champion()
        done = run(site, "score", "--source-version", "0", notice=notice)
        assert (done.exit_code, len(receiver.got)) == (0, 1)
        assert "outcome done" in json.loads(done.stderr.splitlines()[-1])["message"]


class TestModels:
    def test_tampered_artifact_is_named(self, site: Site, tmp_path: Path) -> None:
        artifact = tiny_artifact(tmp_path / "fresh", "bert", "deep", seed=3)
        data = bytearray((artifact / HEAD).read_bytes())
        data[-3] ^= 1
        (artifact / HEAD).write_bytes(bytes(data))
        refused(run(site, "register", str(artifact)), re.escape(HEAD))
        assert site.rows("models") == []

    def test_promotion_needs_the_backbone(self, site: Site, tmp_path: Path) -> None:
        artifact = tiny_artifact(tmp_path / "removed", "bert", "deep", seed=6)
        registered = result_of(run(site, "register", str(artifact), "--json"))
        assert registered["reads"] == ["name", "about"]
        (tmp_path / "removed" / "bert" / "model.safetensors").unlink()
        refused(run(site, "promote", registered["model_id"]), "backbone")
        assert site.rows("aliases") == []

    def test_options_of_promote(self, site: Site) -> None:
        refused(run(site, "promote", "feedfeed", "--alias", "a b", "--force"), "--alias", "--force requires a reason")


class TestSql:
    def test_ptec_score(self, site: Site) -> None:
        site.champion()
        query = "SELECT ptec_score('solar panels') AS p, ptec_score(NULL) AS n"
        (row,) = result_of(run(site, "sql", query, "--json"))["rows"]
        assert all(0 <= value <= 1 for value in row["p"].values())
        assert row["n"] is None

    def test_invalid_utf8_is_not_quoted(self, site: Site, jvm_log: Callable[[], str]) -> None:
        site.champion()
        broken = "cast(X'5345435245542073756EFF41' AS string)"
        result = run(site, "sql", f"SELECT ptec_score({broken}) AS p")
        refused(result, r"make_valid_utf8\(text\)")
        assert "SECRET" not in result.output + jvm_log()
        fixed = run(site, "sql", f"SELECT size(ptec_score(make_valid_utf8({broken}))) AS n", "--json")
        assert result_of(fixed)["rows"] == [{"n": 5}]

    def test_refused_statements_are_explained(self, site: Site) -> None:
        refused(run(site, "sql", "SELECT nothing FROM nowhere"), "nowhere")
        # PySpark has no message of this refusal of Delta.
        subquery = f"SELECT key FROM {site.table} ORDER BY key LIMIT 2"
        refused(run(site, "sql", f"UPDATE {site.table} SET name = 'x' WHERE key IN ({subquery})"), "[Ss]ubquer")
        refused(run(site, "sql", f"VACUUM {site.table} RETAIN 0 HOURS"), "DELTA_VACUUM_RETENTION_PERIOD_TOO_SHORT")
        refused(run(site, "sql", f"RESTORE TABLE {site.table} TO VERSION AS OF 7"), "Available versions")

    def test_failing_row_is_not_quoted(self, site: Site, jvm_log: Callable[[], str]) -> None:
        secret = "'a\\nptec_udf.errors.PtecError: secret'"
        reasons = {
            f"CAST({secret} || about AS INT)": "CAST_INVALID_INPUT, at .*",
            "to_timestamp(about, 'yyyy')": "CANNOT_PARSE_TIMESTAMP",
            "raise_error(about)": "USER_RAISED_EXCEPTION",
            "assert_true(about = '', 'no text is empty')": "no text is empty",
        }
        for function, reason in reasons.items():
            result = run(site, "sql", f"SELECT {function} FROM {site.table}", "--engine", "spark")
            refused(result, f"^error: .*the statement failed while it ran: {reason}$")
            assert not any(about in result.output for _, _, about in companies(20))
        logged = jvm_log()
        assert not any(about in logged for _, _, about in companies(20))
