"""What is checked before a session starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptec_udf.config import WarehouseConfig
from ptec_udf.errors import ConfigError
from ptec_udf.warehouse.embedded import remembered_jars, write_views_sql
from ptec_udf.warehouse.folder import find_tables
from ptec_udf.warehouse.session import build_session


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "warehouse"):
        with pytest.raises(ConfigError, match=r"warehouse\.folder must be a folder that can be written"):
            build_session(WarehouseConfig(folder=str(folder)))


class TestTables:
    def test_are_delta_folders(self, tmp_path: Path) -> None:
        for place in ("ptec/scores", "ptec/companies", "other/a", "ptec/bad name", "ptec/deep/er"):
            (tmp_path / place / "_delta_log").mkdir(parents=True)
        (tmp_path / "ptec" / "plain").mkdir()
        found = find_tables(tmp_path)
        assert {name: sorted(tables) for name, (_, tables) in found.items()} == {
            "ptec": ["companies", "scores"],
            "other": ["a"],
        }

    def test_are_in_views_sql(self, tmp_path: Path) -> None:
        (tmp_path / "it's" / "ptec" / "companies" / "_delta_log").mkdir(parents=True)
        write_views_sql(tmp_path / "it's")
        text = (tmp_path / "it's" / "views.sql").read_text(encoding="utf-8")
        assert f"CREATE TABLE IF NOT EXISTS `ptec`.`companies` USING delta LOCATION '{tmp_path}/it\\'s/ptec/" in text


def test_recorded_jars_count_only_while_they_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "ptec").mkdir()
    jar = tmp_path / "delta.jar"
    jar.write_bytes(b"")
    (tmp_path / "ptec" / "jars.json").write_text(f'{{"packages": "delta:1", "jars": "file://{jar}"}}', encoding="utf-8")
    assert remembered_jars("delta:1") == {"spark.jars": f"file://{jar}", "spark.jars.packages": ""}
    assert remembered_jars("delta:2") == {}
    jar.unlink()
    assert remembered_jars("delta:1") == {}
