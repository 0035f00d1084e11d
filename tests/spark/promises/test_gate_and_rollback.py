"""Promise 9: a model becomes champion only by passing the gate or by force with a reason; rollback shows old scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from ptec_jobs.cli import app
from ptec_training.config import TrainConfig
from ptec_training.train import train
from tests.site import load_config
from tests.spark.support import Site, companies, warehouse_section
from tests.tiny import tiny_backbone, tiny_extract
from tests.variants import equal, shuffled

TRAINING = ("max_tokens=32", "prompt.n_tokens=4", "dtype=float32", "optimiser.head_lr=.03", "stopping.refit=false")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained model, an equal one under another id, one with its labels mixed up, and an extract that judges them."""
    folder = tmp_path_factory.mktemp("made")
    extract, trained = tiny_extract(folder / "extract", n=1000), folder / "trained"
    where = [f"extract={extract}", f"out={trained}", f"backbone={tiny_backbone(folder, 'bert')}"]
    train(load_config(TrainConfig, None, [*where, *TRAINING, "stopping.epochs=2"]))
    worse, same = shuffled(trained, folder / "worse"), equal(trained, folder / "equal")
    return {"extract": extract, "trained": trained, "worse": worse, "equal": same}


class Cli:
    """The command line in this process, on the session of the tests."""

    def __init__(self, site: Site, made: dict[str, Path]) -> None:
        # These models are not calibrated.
        evaluate = {"extract": str(made["extract"]), "gate": {"max_ece": 1.0}}
        self.config = site.folder / "ptec.yaml"
        self.config.write_text(
            yaml.safe_dump({"warehouse": warehouse_section(site), "evaluate": evaluate}), encoding="utf-8"
        )

    def result(self, *arguments: str) -> dict[str, Any]:
        """Run a command that ends well; its result."""
        done = self._invoke(*arguments)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout.strip().splitlines()[-1])

    def errors(self, *arguments: str) -> str:
        """Run a command that is refused; what it printed."""
        done = self._invoke(*arguments)
        assert done.exit_code == 2, done.output
        assert "Traceback" not in done.output
        return done.output

    def _invoke(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--config", str(self.config), "--json"])


def champion(site: Site) -> str:
    return site.sql("SELECT max_by(model_id, at) AS id FROM {db}.aliases WHERE alias = 'champion'")[0]["id"]


class TestGate:
    def test_lets_only_a_better_model_pass(self, empty: Site, made: dict[str, Path]) -> None:
        site, cli = empty, Cli(empty, made)
        site.write(companies(20))
        ids = {name: cli.result("register", str(made[name]))["model_id"] for name in ("worse", "trained", "equal")}
        assert cli.result("promote", ids["worse"])["gate"] == "first"
        site.run()
        before = site.labels()

        assert "compared" in cli.errors("promote", ids["trained"])
        found = cli.result("evaluate", ids["trained"])
        assert found["passed"] is True
        assert min(one["low"] for one in found["differences"]) > 0
        assert cli.result("promote", ids["trained"], "--why", "better")["gate"] == "passed"
        assert champion(site) == ids["trained"]

        assert cli.result("evaluate", ids["worse"])["passed"] is False
        assert "gate, rule" in cli.errors("promote", ids["worse"])
        assert "--why" in cli.errors("promote", ids["worse"], "--force")  # force needs a reason
        assert champion(site) == ids["trained"]
        forced = cli.result("promote", ids["equal"], "--force", "--why", "a test")
        assert forced["gate"].startswith("forced")
        assert champion(site) == ids["equal"]

        # One step back per call; the first model's scores are still there.
        assert cli.result("rollback")["model_id"] == ids["trained"]
        assert site.labels() == {}
        assert cli.result("rollback")["model_id"] == ids["worse"]
        assert site.labels() == before


class TestChallenger:
    def test_is_unseen_until_promoted_and_scored_once(self, scored: Site) -> None:
        first, before = champion(scored), scored.labels()
        second = scored.model(1)
        scored.promote(second, "challenger")
        secrets = ("warehouse.spark={spark.hadoop.fs.s3a.secret.key: sesame}", "notice.webhook=https://hooks/sesame")
        assert scored.run("model.alias=challenger", *secrets)["counts"] == {"ok": 30}
        assert scored.labels() == before
        assert {row["model_id"] for row in scored.sql("SELECT model_id FROM {db}.why_changed")} == {first}
        assert "sesame" not in repr(scored.rows("runs"))

        scored.promote(second)
        expected = scored.sql(f"SELECT key, labels FROM {{db}}.scores WHERE model_id = '{second}'")
        assert scored.labels() == {row["key"]: set(row["labels"]) for row in expected}
        promoted = scored.run(f"model.id={second}")  # the champion by its id
        assert (promoted["skipped"], promoted["rows_per_second"]) == (30, None)
        assert {reason for *_, reason in scored.changes(promoted["run_id"])} == {"model"}
        shown = scored.sql(f"SELECT DISTINCT run_id FROM {{db}}.why_changed WHERE model_id = '{second}'")
        assert [row["run_id"] for row in shown] == [promoted["run_id"]]
