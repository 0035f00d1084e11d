"""Tiny backbones and an extract, made once for all tests of this folder, and short trainings on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from ptec_training.config import TrainConfig
from ptec_training.train import train
from ptec_udf.model.artifact import Artifact, load_artifact
from ptec_udf.model.backbone import resolve
from tests.site import load_config
from tests.tiny import tiny_backbone, tiny_extract
from tests.unit.trainings import QUICK


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps backbones and artifacts that no test changes."""
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="session")
def load_tiny(tiny_folder: Path) -> Callable[[str], tuple[Any, Any]]:
    """Gives model and tokeniser of a family; they are frozen, so that tests can share them."""

    @lru_cache
    def load(family: str) -> tuple[Any, Any]:
        return resolve(tiny_backbone(tiny_folder, family)).load()

    return load


@pytest.fixture(scope="session")
def companies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An extract that no test changes."""
    return tiny_extract(tmp_path_factory.mktemp("extracts") / "companies")


@pytest.fixture
def run(tiny_folder: Path, companies: Path) -> Callable[..., Artifact]:
    """Trains with the given settings; gives the artifact."""

    def run(out: Path, *settings: str, family: str = "bert", epochs: int = 2, extract: Path = companies) -> Artifact:
        backbone = f"backbone={tiny_backbone(tiny_folder, family)}"
        overrides = [f"extract={extract}", f"out={out}", backbone, f"stopping.epochs={epochs}", *QUICK, *settings]
        result = train(load_config(TrainConfig, None, overrides))
        made = load_artifact(out)
        assert result["model_id"] == made.model_id
        return made

    return run
