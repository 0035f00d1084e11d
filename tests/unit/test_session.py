"""What is said before a session is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptec_udf.config import WarehouseConfig
from ptec_udf.errors import ConfigError
from ptec_udf.warehouse.session import build_session


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "warehouse"):
        with pytest.raises(ConfigError, match=r"warehouse\.folder must be a folder that can be written"):
            build_session(WarehouseConfig(folder=str(folder)))


def test_folder_that_the_catalog_would_read_otherwise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"warehouse\.folder must be a path without ';', was"):
        build_session(WarehouseConfig(folder=str(tmp_path / "a;create=false")))
    assert list(tmp_path.iterdir()) == []
