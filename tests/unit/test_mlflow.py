"""Training, registry and predictions with MLflow's own client, on a file store and on a tracking server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest

from ptec_udf import PtecModel
from ptec_udf.errors import ArtifactError, RegistryError
from ptec_udf.model.artifact import Artifact
from ptec_udf.model.mlflow_model import MODEL_TAG
from ptec_udf.warehouse import mlflow_aliases
from tests.processes import free_port
from tests.tiny import LABELS, tiny_artifact, tiny_companies

pytest.importorskip("mlflow", reason="needs the extra mlflow")

pytestmark = pytest.mark.filterwarnings("default:::mlflow", "ignore:.*Any type hint is inferred")

NAME = "industries"
COMPANIES = pd.DataFrame(tiny_companies(30))


@pytest.fixture(scope="module", params=["file", pytest.param("server", marks=pytest.mark.long)])
def tracking_uri(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    if request.param == "file":
        yield (folder / "mlruns").as_uri()
        return
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination", str(folder / "files")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # jobs need a package more
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment) as server,
    ):
        try:
            _wait_for(f"{uri}/health", server)
            yield uri
        finally:
            server.terminate()


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=2).read()
            return
        except (URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"the tracking server did not start: {server.args!r}")


@pytest.fixture
def mlflow(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    return mlflow


def test_training_is_logged(run: Callable[..., Artifact], mlflow: Any, tmp_path: Path) -> None:
    made = run(tmp_path / "trained", epochs=2)
    (found,) = mlflow.search_runs(filter_string=f"tags.`{MODEL_TAG}` = '{made.model_id}'", output_format="list")
    assert found.data.params["stopping.epochs"] == "2"
    client = mlflow.MlflowClient()
    history = [one.value for one in client.get_metric_history(found.info.run_id, "first-0/map")]
    assert history == pytest.approx([epoch["map"] for epoch in made.metrics["trainings"]["first-0"]["history"]])
    overall = made.metrics["splits"]["dev"]["overall"]
    assert found.data.metrics["dev/macro_f1"] == pytest.approx(overall["macro_f1"])
    assert {file.path for file in client.list_artifacts(found.info.run_id, "plots")} == {
        "plots/dev.png",
        "plots/validation.png",
    }
    assert PtecModel.load(f"runs:/{found.info.run_id}/model").model_id == made.model_id


def test_nothing_is_logged_without_a_server(
    run: Callable[..., Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "trained", epochs=1)
    assert [file.name for file in tmp_path.iterdir()] == ["trained"]


def test_registered_model_predicts_as_in_python(mlflow: Any, tmp_path: Path) -> None:
    folder = tiny_artifact(tmp_path, "bert", "deep", seed=7)
    model = PtecModel.load(folder)
    version = mlflow_aliases.register(folder, model.model_id, "own")
    assert mlflow_aliases.register(folder, model.model_id, "own") == version
    mlflow_aliases.move_alias("own", "champion", model.model_id)
    loaded = mlflow.pyfunc.load_model("models:/own@champion")
    table = COMPANIES[["name", "about"]] if "about" in COMPANIES else COMPANIES
    expected = model.predict_proba(COMPANIES)
    np.testing.assert_array_equal(loaded.predict(table), expected)
    assert list(loaded.metadata.get_output_schema().input_names()) == list(LABELS)
    np.testing.assert_array_equal(PtecModel.load("models:/own@champion").predict_proba(COMPANIES), expected)
    files = mlflow.artifacts.download_artifacts("models:/own@champion", dst_path=str(tmp_path / "files"))
    assert not list(Path(files).rglob("*.pkl"))
    with pytest.raises(ArtifactError, match="models:/own@nothing cannot be downloaded"):
        PtecModel.load("models:/own@nothing")


def test_aliases_that_differ_are_refused(mlflow: Any, tmp_path: Path) -> None:
    folders = [tiny_artifact(tmp_path / str(seed), "bert", "deep", seed=seed) for seed in (8, 9)]
    first, second = (PtecModel.load(folder).model_id for folder in folders)
    with pytest.raises(RegistryError, match=f"no version of {first}; register it with ptec register"):
        mlflow_aliases.move_alias(NAME, "champion", first)
    for folder, model_id in zip(folders, (first, second), strict=True):
        mlflow_aliases.register(folder, model_id, NAME)
    with pytest.raises(RegistryError, match="does not exist in MLflow"):
        mlflow_aliases.check_alias(NAME, "champion", first)
    mlflow_aliases.move_alias(NAME, "champion", first)
    mlflow_aliases.check_alias(NAME, "champion", first)
    mlflow.MlflowClient().set_registered_model_alias(NAME, "champion", "2")
    with pytest.raises(RegistryError) as caught:
        mlflow_aliases.check_alias(NAME, "champion", first)
    message = str(caught.value)
    assert f"points to version 2 (model {second}) in MLflow" in message
    assert f"ptec promote {second} --alias champion follows it" in message
    assert f"ptec promote {first} --alias champion moves MLflow's back" in message
