"""Tiny backbones, loaded once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from ptec_udf.model.backbone import resolve
from tests.tiny import tiny_backbone


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
