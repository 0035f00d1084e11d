"""The artifact as an MLflow model: logged without pickle, loaded by ``mlflow.pyfunc.load_model``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pandas as pd

from ptec_udf import __version__
from ptec_udf.errors import ConfigError
from ptec_udf.model.artifact import Artifact, load_artifact
from ptec_udf.text.template import parse_template

MODEL_TAG = "ptec.model_id"


def import_mlflow() -> Any:
    """Return the module mlflow, with its pyfunc; raise ConfigError where it is not installed."""
    try:
        importlib.import_module("mlflow.pyfunc")
        return importlib.import_module("mlflow")
    except ImportError:
        raise ConfigError("MLflow must be installed: pip install 'ptec-batch-scoring[mlflow]'") from None


def log_model(folder: Path) -> str:
    """Log the artifact in a folder to the active MLflow run, or to a new one; return the model's address."""
    artifact = load_artifact(folder)
    info = import_mlflow().pyfunc.log_model(
        name="model",
        loader_module=__name__,  # MLflow would pickle a Python object
        data_path=str(folder),
        signature=_signature(artifact),
        pip_requirements=[f"ptec-batch-scoring=={__version__}"],
        metadata={MODEL_TAG: artifact.model_id},
    )
    return str(info.model_uri)


class PyfuncModel:
    """What ``mlflow.pyfunc.load_model`` calls."""

    def __init__(self, folder: str) -> None:
        """Load the artifact."""
        from ptec_udf.scoring import PtecModel

        self.model = PtecModel.load(folder)

    def predict(self, table: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return ``PtecModel.predict_proba`` of a table with the columns of the model's template."""
        return self.model.predict_proba(table)


def _load_pyfunc(path: str) -> PyfuncModel:
    """Load the model for MLflow, which calls a function of this name."""
    return PyfuncModel(path)


def _signature(artifact: Artifact) -> Any:
    """Return the columns in and out; values may be missing. A column of the template has any type."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    fields = parse_template(artifact.manifest.template).fields
    inputs = Schema([ColSpec(AnyType(), name, required=False) for name in fields])
    outputs = Schema([ColSpec(DataType.float, label.name) for label in artifact.manifest.labels])
    return ModelSignature(inputs, outputs)
