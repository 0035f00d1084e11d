"""``ptec verify`` on a warehouse: what it says of the real engine, and of one with a fault in Spark's workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark import TaskContext
from pyspark.errors import PythonException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from typer.testing import Result

from ptec_udf.config import EngineConfig, ScoreConfig
from ptec_udf.config_file import load_config
from ptec_udf.engine.result import WORKER_DIED, ScoredText
from ptec_udf.model.manifest import Label
from ptec_udf.nightly.plan import ScoringRun, pin_run
from ptec_udf.preflight import arrangements, verify
from ptec_udf.preflight.sample import sample_texts
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.schemas import SCHEMAS
from ptec_udf.warehouse.tables import Warehouse
from tests.faulty import python_path_with_fault
from tests.spark.support import Site, companies
from tests.spark.test_commands import refused, run
from tests.tiny import LABELS, tiny_artifact, tiny_extract
from tests.unit.test_methods import task_of
from tests.variants import variant
from training.methods.tfidf import Tfidf

LONG = "solar " * 60  # is cut
FEW = {"verify": {"rows": 24, "seed": 3}}


@pytest.fixture
def site(warehouse: Warehouse, tmp_path: Path) -> Site:
    made = Site(warehouse, tmp_path)
    made.write([*companies(60), ("long", "long", LONG), ("blank", None, None), (None, "keyless", "wind")])
    return made


@pytest.fixture
def champion(site: Site) -> str:
    """A model whose probabilities move little with its logits; those of random weights are coarse in bfloat16."""
    label = Label(name="", threshold=0.5, scale=0.25, offset=0.0, training_positives=20)
    labels = [label.model_copy(update={"name": name}) for name in LABELS]
    made = variant(tiny_artifact(site.folder, "bert", "deep"), site.folder / "gentle", labels=labels)
    model_id = registry.register(site.warehouse, made, site.folder / "keep", "gentle")
    registry.promote(site.warehouse, model_id, alias="champion", who="test", why="", check=lambda *_: None)
    return model_id


def result_of(command: Result) -> dict[str, Any]:
    return json.loads(command.stdout.strip().splitlines()[-1])


def versions(site: Site) -> dict[str, int]:
    return {table: site.warehouse.version(table) for table in SCHEMAS}


def night_of(site: Site, *overrides: str) -> ScoringRun:
    mine = [f"warehouse.database={site.warehouse.database}", f"source.table={site.table}", "source.key=key"]
    return pin_run(site.warehouse, load_config(ScoreConfig, None, [*mine, *overrides]))


def test_real_engine_passes_and_nothing_is_written(site: Site, champion: str) -> None:
    before = versions(site)
    command = run(site, "verify", "--json", **FEW)
    assert command.exit_code == 0, command.output
    found = result_of(command)
    assert (found["source"], found["source_version"], found["passed"]) == (site.table, 0, True)
    assert found["model_id"] == champion
    assert found["texts"] in range(24, 24 + 4 + 1)
    assert found["without_scores"] == 0
    assert {one["rows"] for one in found["arrangements"]} == {found["texts"]}
    by_dtype = {
        dtype: [one for one in found["arrangements"] if one["dtype"] == dtype] for dtype in ("float32", "bfloat16")
    }
    assert {dtype: len(those) for dtype, those in by_dtype.items()} == {"float32": 12, "bfloat16": 5}
    assert {dtype: sum(one["name"].startswith("Spark") for one in those) for dtype, those in by_dtype.items()} == {
        "float32": 4,
        "bfloat16": 1,
    }
    assert max(one["worst_logit"] for one in by_dtype["float32"]) < 5e-5
    assert min(one["worst_logit"] for one in by_dtype["bfloat16"]) > 1e-4
    assert versions(site) == before
    assert site.rows("runs") == site.rows("scores") == site.rows("score_staging") == []


@pytest.mark.usefixtures("champion")
def test_fault_in_the_workers_is_found(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the workers have it: this process scores as ever, so that what is found has come through them."""
    environment = site.spark.sparkContext.environment
    monkeypatch.setitem(environment, "PYTHONPATH", python_path_with_fault(tmp_path))
    before = versions(site)
    assert run(site, "verify", engine={"dtype": "float32"}, **FEW).stdout.count("bfloat16") == 0
    command = run(site, "verify", **FEW)
    assert command.exit_code == 1, command.output
    (error,) = [line for line in command.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: scores depend on the batch")
    assert "'Spark, 1 partition, one batch' (float32)" in error
    assert "'Spark, 2 partitions, shuffled, windows of 7' (bfloat16)" in error
    assert "driver" not in error
    assert "have the scores that each has alone" in command.stdout
    assert "Spark, 1 partition, one batch" in command.stdout
    assert "solar" not in command.output
    assert versions(site) == before


@pytest.mark.usefixtures("champion")
def test_sample_is_the_same_each_time_and_has_the_longest(site: Site, spark: SparkSession) -> None:
    night = night_of(site)
    every = sample_texts(night, rows=1000, seed=0)
    assert len(every) == len(set(every)) == 61  # twins share a text; blank and keyless have none
    drawn = sample_texts(night, rows=20, seed=0, longest=2)
    assert set(drawn) < set(every)
    assert len(drawn) in (20, 21, 22)
    assert drawn == sample_texts(night, rows=20, seed=0, longest=2)
    assert sorted(map(len, every))[-2:] == sorted(map(len, drawn))[-2:]
    assert set(sample_texts(night, rows=20, seed=0)) != set(sample_texts(night, rows=20, seed=1))
    site.night()
    scores = site.warehouse.name("scores")
    spark.sql(
        f"UPDATE {scores} SET status = 'error', error = :killed WHERE key = 'c0003'", args={"killed": WORKER_DIED}
    )
    assert [text for text in every if text not in sample_texts(night_of(site), rows=1000, seed=0)] == [
        f"Name: {name}. {about.strip()}" for key, name, about in companies(60) if key == "c0003"
    ]
    spark.sql(f"DELETE FROM {scores}")
    site.write(companies(60)[::-1])  # another order, other files
    fewer = sample_texts(night_of(site), rows=1000, seed=0)
    assert set(every) - set(fewer) == {f"Name: long. {LONG.strip()}"}
    assert [text for text in every if text in set(fewer)] == fewer


@pytest.mark.usefixtures("champion")
def test_wrong_configurations(site: Site) -> None:
    refused(run(site, "verify", verify={"rows": 0, "rowz": 1}), "verify.rows.*was: 0", "rowz")
    refused(run(site, "verify", model={"alias": "nobody"}), "nobody")
    refused(run(site, "verify", source={"table": site.table, "key": "key", "columns": {"about": "shape"}}), "'shape'")
    site.write([("blank", None, None)])
    refused(run(site, "verify"), "must have a text to verify with")


@pytest.mark.usefixtures("champion")
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("score_on_spark", PythonException("secret text", [], {}), "verify failed with PythonException, see Spark's"),
        (
            "score_alone",
            [ScoredText("error", error="logits are not finite")],
            "1 of 1 have none: logits are",
        ),
    ],
)
def test_run_that_cannot_be_judged_ends_with_1_and_quotes_no_text(
    site: Site, monkeypatch: pytest.MonkeyPatch, name: str, value: Any, said: str
) -> None:
    def disturbed(*_: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    site.write([("one", "secret", "wind")])
    monkeypatch.setattr(verify, name, disturbed)
    command = run(site, "verify", **FEW)
    assert command.exit_code == 1
    assert said in command.stderr
    assert "Traceback" not in command.output
    assert "secret" not in command.output


def test_rows_are_in_as_many_partitions_as_the_name_says(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    @F.pandas_udf("status string, logits array<float>")  # type: ignore[call-overload]
    def where(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            yield pd.DataFrame({"status": str(TaskContext.get().partitionId()), "logits": [[float(t)] for t in batch]})

    monkeypatch.setattr(arrangements, "scoring_udf", lambda *_: where)
    texts = [str(at) for at in range(30)]
    for one in arrangements.arrangements(EngineConfig(), [3] * len(texts), "float32"):
        if one.partitions is not None:
            found = arrangements.score_on_spark(spark, None, texts, one, 5)
            assert len({text.status for text in found}) == one.partitions
            assert one.name.startswith(f"Spark, {one.partitions} partition")
            assert [text.logits[0] for text in found] == list(range(30))


def test_model_of_terms_is_tried_in_float32(site: Site, tmp_path: Path) -> None:
    Tfidf(C=10).learn(task_of(tiny_extract(tmp_path / "extract"), tmp_path))
    model_id = registry.register(site.warehouse, tmp_path / "artifact", tmp_path / "keep", "terms")
    registry.promote(site.warehouse, model_id, alias="champion", who="test", why="", check=lambda *_: None)
    command = run(site, "verify", "--json", **FEW)
    assert command.exit_code == 0, command.output
    found = result_of(command)["arrangements"]
    assert [(one["dtype"], one["worst_logit"]) for one in found] == [("float32", 0.0)] * 12
