"""A challenger is compared with the champion, and takes its place only by what was found."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from jobs.cli import app
from ptec_udf.config import load_config
from ptec_udf.warehouse.session import FOLDER_SETTING
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.nights import Site, companies
from tests.tiny import tiny_backbone, tiny_extract
from tests.variants import equal, shuffled
from training.args import TrainConfig
from training.train import train


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained model, one that says the same, one whose labels are mixed up, and an extract that judges them."""
    folder = tmp_path_factory.mktemp("made")
    extract = tiny_extract(folder / "extract", n=1000)
    settings = [f"extract={extract}", f"out={folder / 'trained'}", f"backbone={tiny_backbone(folder, 'bert')}"]
    quick = ["max_tokens=32", "prompt.n_tokens=4", "dtype=float32", "optimiser.head_lr=.03", "stopping.refit=false"]
    train(load_config(TrainConfig, None, [*settings, *quick, "stopping.epochs=2"]))
    trained = folder / "trained"
    worse, same = shuffled(trained, folder / "worse"), equal(trained, folder / "equal")
    return {"extract": extract, "trained": trained, "worse": worse, "equal": same}


@pytest.fixture
def site(warehouse: Warehouse, tmp_path: Path) -> Site:
    return Site(warehouse, tmp_path)


def run(site: Site, made: dict[str, Path], *arguments: str, json: bool = True) -> Result:
    """Run a command in this process, on the session of the tests; calibration is not what these models are good at."""
    where = {"folder": site.spark.conf.get(FOLDER_SETTING), "database": site.warehouse.database}
    where["artifacts"] = str(site.folder / "keep")
    content = {"warehouse": where, "extract": str(made["extract"]), "resamples": 100, "gate": {"max_ece": 1.0}}
    config = site.folder / "evaluate.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    return CliRunner().invoke(app, [*arguments, "--config", str(config), *(["--json"] if json else [])])


def result_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.strip().splitlines()[-1])


def refused(result: Result) -> list[str]:
    """The faults that a command ended with."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return [line for line in result.output.splitlines() if line.startswith("error: ")]


def test_only_a_better_challenger_takes_the_champion_s_place(site: Site, made: dict[str, Path]) -> None:
    worse, trained, same = (
        result_of(run(site, made, "register", str(made[name])))["model_id"] for name in ("worse", "trained", "equal")
    )
    alone = run(site, made, "evaluate", worse)
    assert (result_of(alone)["champion_id"], result_of(alone)["passed"]) == (None, None)
    assert "points to no model yet: there is nothing to compare with" in alone.stderr
    assert result_of(run(site, made, "promote", worse))["gate"] == "first"
    site.write(companies(20))
    site.night()

    [fault] = refused(run(site, made, "promote", trained))
    assert f"model {trained} must be compared with {worse}" in fault
    found = result_of(run(site, made, "evaluate", trained[:8]))
    assert (found["n_rows"], found["passed"], found["readings"]) == (100, True, 2)
    assert min(one["low"] for one in found["differences"]) > 0
    assert set(refused(run(site, made, "promote", trained, "--set", "gate.min_gain=0.9"))[0].split(":")[1:2]) == {
        " gate, rule gain"
    }
    site.night(f"model.id={trained}")
    assert result_of(run(site, made, "promote", trained, "--why", "better"))["gate"] == "passed"
    assert current_models(site) == {trained}

    for challenger, broken in ((same, {"gain"}), (worse, {"gain", "label_loss"})):
        found = result_of(run(site, made, "evaluate", challenger))
        assert {rule["rule"] for rule in found["rules"] if not rule["passed"]} == broken
        assert found["passed"] is False
        faults = refused(run(site, made, "promote", challenger))
        assert [fault.partition(":")[2].partition(":")[0] for fault in faults] == [
            f" gate, rule {name}" for name in sorted(broken)
        ]
    assert "--force must come with a reason" in refused(run(site, made, "promote", worse, "--force", "--why", " "))[0]
    forced = result_of(run(site, made, "promote", worse, "--force", "--why", "a test"))
    assert forced["gate"] == "forced: gain, label_loss"
    assert current_models(site) == {worse}

    assert result_of(run(site, made, "rollback"))["model_id"] == trained
    assert current_models(site) == {trained}
    moves = site.warehouse.read("aliases").orderBy("at").select("model_id", "gate").collect()
    assert [tuple(move) for move in moves] == [
        (worse, "first"),
        (trained, "passed"),
        (worse, "forced: gain, label_loss"),
        (trained, None),
    ]
    kept = site.warehouse.read("evaluations").orderBy("at").selectExpr("challenger_id", "passed", "size(rules)")
    assert [tuple(row) for row in kept.collect()] == [
        (worse, None, 0),
        (trained, True, 5),
        (same, False, 5),
        (worse, False, 5),
    ]


def test_a_pair_that_was_not_compared_as_the_gate_asks_needs_force(site: Site, made: dict[str, Path]) -> None:
    worse, trained = (
        result_of(run(site, made, "register", str(made[name])))["model_id"] for name in ("worse", "trained")
    )
    result_of(run(site, made, "promote", worse, "--alias", "next"))
    shown = run(site, made, "evaluate", trained, "--set", "alias=next", "--set", "gate.confidence=0.5", json=False)
    assert shown.exit_code == 0, shown.output
    assert re.search(
        r"rule gain +passed: the interval of the gain in map must lie above 0, the gain is \+", shown.stdout
    )
    [fault] = refused(run(site, made, "promote", trained, "--alias", "next"))
    assert "intervals of confidence 0.95 or more, has intervals of confidence 0.5; run ptec evaluate" in fault
    again = result_of(run(site, made, "evaluate", worse, "--set", "alias=next"))
    assert (again["champion_id"], again["passed"]) == (worse, None)
    forced = result_of(run(site, made, "promote", trained, "--alias", "next", "--force", "--why", "a test"))
    assert forced["gate"] == "forced: no evaluation"
    assert site.warehouse.read("evaluations").count() == 1


def current_models(site: Site) -> set[str]:
    """Models whose scores the analysts' view shows."""
    return {
        row.model_id for row in site.spark.table(site.warehouse.name("current_scores")).select("model_id").collect()
    }
