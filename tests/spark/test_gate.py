"""A challenger is compared with the champion, and takes its place only by what was found."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from jobs.cli import app
from ptec_udf.config_file import load_config
from ptec_udf.errors import RegistryError
from ptec_udf.warehouse.embedded import FOLDER_SETTING
from ptec_udf.warehouse.tables import Warehouse
from tests.site import write_site
from tests.spark.nights import Site, companies
from tests.tiny import tiny_backbone, tiny_extract
from tests.variants import equal, shuffled
from training.config import TrainConfig
from training.evaluate.comparison import Comparison, Difference
from training.evaluate.config import EvaluateConfig, GateConfig
from training.evaluate.gate import RULES, apply_gate
from training.evaluate.record import check_gate, keep, readings
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
    settings = {"extract": str(made["extract"]), "resamples": 100, "gate": {"max_ece": 1.0}}
    config = write_site(site.folder, warehouse=where, evaluate=settings)
    return CliRunner().invoke(app, [*arguments, "--config", str(config), *(["--json"] if json else [])])


def result_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.strip().splitlines()[-1])


def refused(result: Result) -> list[str]:
    """The faults that a command ended with."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return [line for line in result.output.splitlines() if line.startswith("error: ")]


def rules_in(faults: list[str]) -> list[str]:
    """The rules of the gate that faults name."""
    return [found[1] for fault in faults if (found := re.match(r"error: \S+ gate, rule (\w+): ", fault))]


def test_only_a_better_challenger_takes_the_champion_s_place(site: Site, made: dict[str, Path]) -> None:
    worse, trained, same = (
        result_of(run(site, made, "register", str(made[name])))["model_id"] for name in ("worse", "trained", "equal")
    )
    alone = run(site, made, "evaluate", worse)
    assert (result_of(alone)["champion_id"], result_of(alone)["passed"]) == (None, None)
    assert result_of(alone)["challenger"]["map"] > 0
    assert "points to no model yet: there is nothing to compare with" in alone.stderr
    assert result_of(run(site, made, "promote", worse))["gate"] == "first"
    site.write(companies(20))
    site.night()

    [fault] = refused(run(site, made, "promote", trained))
    assert f"model {trained} must be compared with {worse}" in fault
    found = result_of(run(site, made, "evaluate", trained[:8]))
    assert (found["n_rows"], found["passed"], found["readings"]) == (100, True, 2)
    assert min(one["low"] for one in found["differences"]) > 0
    assert rules_in(refused(run(site, made, "promote", trained, "--set", "gate.min_gain=0.9"))) == ["gain"]
    site.night(f"model.id={trained}")
    assert result_of(run(site, made, "promote", trained, "--why", "better"))["gate"] == "passed"
    assert current_models(site) == {trained}

    found = result_of(run(site, made, "evaluate", same))
    assert [rule["rule"] for rule in found["rules"] if not rule["passed"]] == ["gain"]
    assert found["passed"] is False
    assert rules_in(refused(run(site, made, "promote", same))) == ["gain"]
    shown = run(site, made, "evaluate", worse, json=False)
    assert shown.exit_code == 0, shown.output
    assert re.search(r"rule gain +BROKEN: .* above 0, the gain is -.*rule coverage +passed", shown.stdout, re.S)
    assert rules_in(refused(run(site, made, "promote", worse))) == ["gain", "decisions", "label_loss"]
    beside = run(site, made, "promote", worse, "--alias", "challenger")
    assert result_of(beside)["gate"] == "first"
    assert result_of(run(site, made, "promote", same, "--alias", "challenger"))["gate"] is None
    assert "--alias must be letters" in refused(run(site, made, "promote", same, "--alias", "next-one"))[0]
    assert "--force must come with a reason" in refused(run(site, made, "promote", worse, "--force", "--why", " "))[0]
    forced = result_of(run(site, made, "promote", worse, "--force", "--why", "a test"))
    assert forced["gate"] == "forced: gain, decisions, label_loss"
    assert current_models(site) == {worse}

    assert result_of(run(site, made, "rollback"))["model_id"] == trained
    assert current_models(site) == {trained}
    moves = (
        site.warehouse.read("aliases").where("alias = 'champion'").orderBy("at").select("model_id", "gate").collect()
    )
    assert [tuple(move) for move in moves] == [
        (worse, "first"),
        (trained, "passed"),
        (worse, "forced: gain, decisions, label_loss"),
        (trained, None),
    ]
    judged = (
        site.warehouse.read("aliases")
        .where("alias = 'champion'")
        .join(site.warehouse.read("evaluations").selectExpr("evaluation_id", "challenger_id"), on="evaluation_id")
    )
    judged = judged.orderBy("at").selectExpr("challenger_id", "filter(rules, rule -> not rule.passed).rule")
    assert [tuple(row) for row in judged.collect()] == [(trained, []), (worse, ["gain", "decisions", "label_loss"])]
    kept = site.warehouse.read("evaluations").orderBy("at").selectExpr("challenger_id", "passed", "size(rules)")
    assert [tuple(row) for row in kept.collect()] == [
        (worse, None, 0),
        (trained, True, len(RULES)),
        (same, False, len(RULES)),
        (worse, False, len(RULES)),
    ]


def test_the_newest_comparison_of_exactly_the_two_counts(warehouse: Warehouse) -> None:
    config, gate = EvaluateConfig(extract="x"), GateConfig()

    def compared(low: float, confidence: float = 0.95) -> None:
        found = comparison(low, confidence)
        keep(warehouse, config, ("old", "new"), found, apply_gate(found, gate), "f" * 64, "tester")

    def check(*pair: str, force: bool = False) -> str:
        return check_gate(warehouse, gate, "next", *pair, force=force)["gate"]

    for confidence in (0.5, 0.99):  # wider intervals would hide a loss
        compared(0.1, confidence)
        fault = rf"has intervals of confidence {confidence}; run ptec evaluate new --set alias=next"
        with pytest.raises(RegistryError, match=fault):
            check("old", "new")
    compared(0.1)
    assert check("old", "new") == "passed"
    compared(-0.1)
    with pytest.raises(RegistryError, match=r"^gate, rule gain: .* must lie above 0, the gain is \+0\.0000"):
        check("old", "new")
    assert check("old", "new", force=True) == "forced: gain"
    with pytest.raises(RegistryError, match="model old must be compared with new, which alias next points to"):
        check("new", "old")
    assert check("new", "old", force=True) == "forced: no evaluation"
    assert readings(warehouse, "f" * 64, "dev") == 4
    assert readings(warehouse, "f" * 64, "test") == 0


def comparison(low: float, confidence: float) -> Comparison:
    """Two models whose difference in mAP has an interval that begins at ``low``."""
    figures = {"map": 0.5, "ece": 0.01, "auroc": None}
    labels = ["a", 'it\'s "b"']
    differences = [
        Difference(
            figure=figure, label=label, positives=9, champion=0.5, challenger=0.5, difference=0.0, low=low, high=0.2
        )
        for figure, label in [("map", None), ("macro_f1", None), *(("ap", label) for label in labels)]
    ]
    return Comparison(
        n_rows=200,
        left_out={"learned by champion": 1},
        held_out=True,
        labels=labels,
        unjudged=[],
        only_champion=[],
        only_challenger=[],
        champion=figures,
        challenger=figures,
        confidence=confidence,
        differences=differences,
    )


def current_models(site: Site) -> set[str]:
    """Models whose scores the analysts' view shows."""
    return {
        row.model_id for row in site.spark.table(site.warehouse.name("current_scores")).select("model_id").collect()
    }
