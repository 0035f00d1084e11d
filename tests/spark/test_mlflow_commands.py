"""``ptec register``, ``promote``, ``rollback`` and ``score`` with a model in MLflow's registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ptec_udf.warehouse import mlflow_aliases
from tests.spark.support import Site, companies
from tests.spark.test_commands import refused, result_of, run
from tests.tiny import tiny_artifact

pytest.importorskip("mlflow", reason="needs the extra mlflow")

pytestmark = pytest.mark.filterwarnings("default:::mlflow", "ignore:.*Any type hint is inferred")

MODEL = {"model": {"mlflow": "industries"}, "evaluate": {"gate": {"aliases": []}}}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import mlflow

    uri = (tmp_path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient()


def test_aliases_move_together_and_a_run_is_refused_when_they_differ(site: Site, client: Any) -> None:
    site.write(companies(20))
    folders = [tiny_artifact(site.folder, "bert", "deep", seed=seed) for seed in (0, 1)]
    made = [result_of(run(site, "register", str(folder), "--json", **MODEL)) for folder in folders]
    assert [one["mlflow_version"] for one in made] == ["1", "2"]
    first, second = (one["model_id"] for one in made)

    def version() -> str:
        return str(client.get_model_version_by_alias("industries", "champion").version)

    result_of(run(site, "promote", first, "--json", **MODEL))
    assert version() == "1"
    result_of(run(site, "promote", second, "--json", **MODEL))
    assert version() == "2"
    result_of(run(site, "rollback", "--json", **MODEL))
    assert version() == "1"
    assert result_of(run(site, "score", "--json", **MODEL))["model_id"] == first

    mlflow_aliases.move_alias("industries", "champion", second)  # by somebody else
    refused(run(site, "score", **MODEL), f"version 2 .model {second}.*in the warehouse it is model {first}")
    result_of(run(site, "promote", second, "--json", **MODEL))  # follows it
    assert result_of(run(site, "score", "--json", **MODEL))["model_id"] == second
