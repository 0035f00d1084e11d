"""Models and aliases in MLflow's registry, kept equal to those of the warehouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ptec_udf.errors import RegistryError
from ptec_udf.log import logger
from ptec_udf.model.mlflow_model import MODEL_TAG, import_mlflow, log_model


def register(folder: Path, model_id: str, name: str) -> str:
    """Register an artifact as a version of an MLflow model, unless it is one; return the version."""
    mlflow = import_mlflow()
    if (known := _version_of(name, model_id)) is not None:
        logger.info(f"model {model_id} is already version {known} of {name!r} in MLflow")
        return known
    with mlflow.start_run(run_name=f"ptec register {model_id}"):
        uri = log_model(folder)
    return str(mlflow.register_model(uri, name, tags={MODEL_TAG: model_id}).version)


def move_alias(name: str, alias: str, model_id: str) -> None:
    """Point MLflow's alias to the version of a model; raise RegistryError where there is none."""
    version = _version_of(name, model_id)
    if version is None:
        raise RegistryError(
            f"alias {alias!r} was moved in the warehouse only: MLflow's model {name!r} has no version of {model_id}; "
            f"register it with ptec register ARTIFACT --mlflow {name}, then run ptec promote {model_id} --alias {alias}"
        )
    _client().set_registered_model_alias(name, alias, version)


def check_alias(name: str, alias: str, model_id: str) -> None:
    """Raise RegistryError where MLflow's alias points to another model than the warehouse's ``model_id``."""
    version = _aliases(name).get(alias)
    found = next((one.tags.get(MODEL_TAG) for one in _versions(name) if str(one.version) == version), None)
    if found == model_id:
        return
    state = f"points to version {version} (model {found})" if version else "does not exist"
    follow = f"ptec promote {found} --alias {alias} follows it, " if found else ""
    raise RegistryError(
        f"alias {alias!r} of {name!r} {state} in MLflow, and was not moved there by ptec: in the warehouse it is "
        f"model {model_id}; {follow}ptec promote {model_id} --alias {alias} moves MLflow's back"
    )


def _client() -> Any:
    return import_mlflow().MlflowClient()


def _versions(name: str) -> list[Any]:
    escaped = name.replace("'", "\\'")
    return list(_client().search_model_versions(f"name = '{escaped}'"))


def _version_of(name: str, model_id: str) -> str | None:
    found = [version.version for version in _versions(name) if version.tags.get(MODEL_TAG) == model_id]
    return str(max(found, key=int)) if found else None


def _aliases(name: str) -> dict[str, str]:
    """Return the version of each alias; empty for a model that MLflow lacks."""
    models = _client().search_registered_models(f"name = '{name}'")
    return {alias: str(version) for model in models for alias, version in model.aliases.items()}
