"""``ptec verify`` and ``ptec estimate`` on a warehouse: neither writes to a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptec_udf.model.manifest import Label
from ptec_udf.warehouse.schemas import SCHEMAS
from tests.faulty import python_path_with_fault
from tests.spark.support import Site, companies
from tests.spark.test_commands import refused, result_of, run
from tests.tiny import LABELS, tiny_artifact
from tests.variants import variant

LONG = "solar " * 60  # is cut
VERIFY = {"verify": {"rows": 24, "seed": 3}, "engine": {"dtype": "float32"}}
ESTIMATE = {"estimate": {"seconds": 1}, "engine": {"dtype": "float32"}}


@pytest.fixture
def champion(site: Site) -> str:
    """A model whose probabilities move little with its logits: random weights are coarse in bfloat16."""
    label = Label(name="", threshold=0.5, scale=0.25, offset=0.0, training_positives=20)
    labels = [label.model_copy(update={"name": name}) for name in LABELS]
    made = variant(tiny_artifact(site.folder, "bert", "deep"), site.folder / "gentle", labels=labels)
    model_id = site.register(made, "gentle")
    site.promote(model_id)
    site.write([*companies(60), ("long", "long", LONG), ("blank", None, None), (None, "keyless", "wind")])
    return model_id


def versions(site: Site) -> dict[str, int]:
    return {table: site.warehouse.version(table) for table in SCHEMAS}


class TestVerify:
    def test_passes_on_the_real_engine(self, site: Site, champion: str) -> None:
        before = versions(site)
        found = result_of(run(site, "verify", "--json", **VERIFY | {"engine": {"dtype": "bfloat16"}}))
        assert (found["source"], found["model_id"], found["passed"]) == (site.table, champion, True)
        assert 24 <= found["texts"] <= 24 + 4
        distance = {(one["name"], one["dtype"]): one["max_logit"] for one in found["variants"]}
        assert len(distance) == 6
        assert max(value for (_, dtype), value in distance.items() if dtype == "float32") < 5e-5
        assert min(value for (_, dtype), value in distance.items() if dtype == "bfloat16") > 1e-4
        assert versions(site) == before

    @pytest.mark.usefixtures("champion")
    def test_finds_a_fault_of_the_workers(self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(site.spark.sparkContext.environment, "PYTHONPATH", python_path_with_fault(tmp_path))
        command = run(site, "verify", **VERIFY)
        assert command.exit_code == 1, command.output
        (error,) = [line for line in command.stderr.splitlines() if line.startswith("error: ")]
        assert "scores depend on the batch" in error
        assert "large batches, shuffled (float32)" in error
        assert "each text alone" not in error
        assert "solar" not in command.output

    @pytest.mark.usefixtures("champion")
    def test_refuses_wrong_settings_and_an_empty_source(self, site: Site) -> None:
        refused(run(site, "verify", verify={"rows": 0, "rowz": 1}), "verify.rows.*was: 0", "rowz")
        refused(run(site, "verify", model={"alias": "nobody"}), "nobody")
        site.write([("blank", None, None)])
        refused(run(site, "verify"), "has no text to verify with")


def test_estimate_counts_what_the_run_then_does(site: Site) -> None:
    site.champion()
    site.write(companies(60))
    before = versions(site)
    found = result_of(run(site, "estimate", "--json", **ESTIMATE))
    assert (found["companies"], found["texts"]) == (70, 60)
    assert 0 < found["scoring_seconds"] < found["seconds"]
    assert found["scoring_seconds"] == pytest.approx(found["tokens"] / found["tokens_per_second"])
    assert 20 < found["memory_mb"]["each_worker"] < 4000
    assert versions(site) == before
    done = site.run()
    assert (sum(done["counts"].values()), done["reused"]) == (70, 10)
    nothing = result_of(run(site, "estimate", "--json", **ESTIMATE))
    assert (nothing["texts"], nothing["companies"]) == (0, 0)
    assert nothing["reason"].startswith("nothing to do")
