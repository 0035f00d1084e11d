"""A run of a model without a language model: TF-IDF, from the benchmark's artifact to SQL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptec_jobs.cli_model import check_loads
from ptec_training.methods.linear import Tfidf
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.model.artifact import load_artifact
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.sql_function import register_ptec_score
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.support import Site, companies
from tests.tiny import tiny_extract
from tests.unit.test_methods import task_of


@pytest.mark.long
def test_tfidf_is_registered_promoted_and_scored_as_any_model(warehouse: Warehouse, tmp_path: Path) -> None:
    Tfidf(C=[10]).learn(task_of(tiny_extract(tmp_path / "extract"), tmp_path))
    made = load_artifact(tmp_path / "artifact")
    site = Site(warehouse, tmp_path)
    site.write([*companies(20), ("blank", None, None)])
    model_id = registry.register(warehouse, tmp_path / "artifact", tmp_path / "keep", "terms")
    registry.promote(warehouse, model_id, alias="champion", who="test", why="", check=check_loads)
    (listed,) = registry.list_models(warehouse)
    assert (listed["model_id"], listed["backbone"]) == (made.model_id, None)
    assert site.run()["counts"] == {"ok": 30, "empty": 1}
    scores, scorer = site.scores(), load_scorer(made)
    for key, name, about in companies(20):
        text = made.manifest.template.format(name=name, about=about)
        (alone,) = scorer.score([text])
        np.testing.assert_array_equal(np.float32(scores[key]["logits"]), alone.logits)
        assert (scores[key]["n_tokens"], scores[key]["n_truncated"]) == (len(text.split()), 0)
    assert {len(row["labels"]) for row in scores.values()} >= {0, 1}
    assert site.run()["outcome"] == "nothing_to_do"
    register_ptec_score(site.spark, warehouse.database)
    (row,) = site.spark.sql("SELECT ptec_score('Name: a. solar wind grid power') AS p").collect()
    assert max(row.p, key=row.p.get) == "energy"
