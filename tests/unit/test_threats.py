"""Threats of docs/project/security.md: hostile artifacts, backbones, configurations, names and table contents."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError

from ptec_jobs.command import run_command
from ptec_udf.config import ScoreConfig, WarehouseConfig
from ptec_udf.errors import ArtifactError, BackboneError, ConfigError
from ptec_udf.log import configure_log, logger
from ptec_udf.model.artifact import HEAD, MANIFEST, load_artifact, seal
from ptec_udf.model.backbone import resolve
from ptec_udf.model.manifest import Manifest
from tests.site import load_config
from tests.tiny import tiny_artifact, tiny_backbone


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_artifact(tmp_path / "made")


def sealed_with(folder: Path, **files: bytes) -> None:
    """Change files of an artifact and compute all its hashes again, as an attacker can."""
    sealed = seal(load_artifact(folder).manifest, {file.name: file.read_bytes() for file in folder.iterdir()} | files)
    for name, content in sealed.items():
        if (folder / name).parent == folder:
            (folder / name).write_bytes(content)


class TestArtifact:
    def test_changed_byte_is_refused_with_the_file_name(self, folder: Path) -> None:
        for name in sorted(file.name for file in folder.iterdir()):
            content = (folder / name).read_bytes()
            (folder / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
            with pytest.raises(ArtifactError, match=name):
                load_artifact(folder)
            (folder / name).write_bytes(content)
        load_artifact(folder)

    @pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "sub/../../outside", "code.py"])
    def test_names_no_file_outside_its_folder(self, folder: Path, name: str) -> None:
        sealed_with(folder, **{name: b"x"})
        with pytest.raises(ArtifactError):
            load_artifact(folder)

    def test_pickle_in_place_of_tensors_is_refused(self, folder: Path, tmp_path: Path) -> None:
        torch.save({"weight": torch.zeros(1)}, tmp_path / "pickle")
        sealed_with(folder, **{HEAD: (tmp_path / "pickle").read_bytes()})
        with pytest.raises(ArtifactError, match="safetensors"):
            load_artifact(folder)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_has_finite_numbers(self, folder: Path, value: float) -> None:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        manifest["labels"][0] |= {"scale": value, "offset": value}
        manifest["threshold_logit"] = value
        with pytest.raises(ValidationError) as caught:
            Manifest.model_validate(manifest)
        assert {error["loc"][-1] for error in caught.value.errors()} == {"scale", "offset", "threshold_logit"}

    def test_names_each_label_once(self, folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        manifest["labels"][1]["name"] = manifest["labels"][0]["name"]
        with pytest.raises(ValidationError, match=manifest["labels"][0]["name"]):
            Manifest.model_validate(manifest)


class TestBackbone:
    def test_code_in_its_folder_is_not_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("builtins.input", lambda _="": "y")  # transformers asks for consent
        made, ran = tmp_path / "backbone", tmp_path / "ran"
        shutil.copytree(tiny_backbone(tmp_path, "bert").removeprefix("path:"), made)
        config = json.loads((made / "config.json").read_text("utf-8"))
        config |= {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}, "model_type": "evil"}
        (made / "config.json").write_text(json.dumps(config), "utf-8")
        (made / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n", "utf-8")
        with pytest.raises(BackboneError, match="custom code"):
            resolve(f"path:{made}").load()
        assert not ran.exists()


class TestConfiguration:
    def test_makes_no_objects(self, tmp_path: Path) -> None:
        file, ran = tmp_path / "ptec.yaml", tmp_path / "ran"
        value = f"!!python/object/apply:os.system ['touch {ran}']"
        file.write_text(f"source: {value}\n", "utf-8")
        with pytest.raises(ConfigError, match="YAML"):
            load_config(ScoreConfig, file)
        with pytest.raises(ConfigError, match="YAML"):
            load_config(ScoreConfig, None, [f"source={value}"])
        assert not ran.exists()

    @pytest.mark.parametrize("name", ["ptec; DROP TABLE scores", "a`b", "a b", "", "é"])
    def test_names_in_statements_are_plain(self, name: str) -> None:
        with pytest.raises(ConfigError, match="database"):
            load_config(WarehouseConfig, None, [f"database={yaml.safe_dump(name)}"])
        with pytest.raises(ConfigError, match="alias"):
            load_config(ScoreConfig, None, ["source.table=x", f"model.alias={yaml.safe_dump(name)}"])


class TestTerminal:
    @pytest.mark.parametrize("log", ["text", "json"])
    @pytest.mark.parametrize("as_json", [False, True])
    def test_is_not_controlled_by_table_contents(
        self, as_json: bool, log: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        row = {"key": "\x1b]0;owned\x07\x1b[2J[red]x", "label": "a\r\nb\u202e\x9b\x7f\U000e0041", "name": "Straße"}

        def work() -> dict[str, Any]:
            configure_log(log, "ptec sql")
            logger.warning(f"{row}: {row['label']}")
            return {"rows": [row]}

        run_command(work, as_json=as_json)
        printed = capsys.readouterr()
        assert not [letter for letter in printed.out + printed.err if letter != "\n" and not letter.isprintable()]
        assert "[red]x" in printed.out
        assert "Straße" in printed.out
        if as_json:
            assert json.loads(printed.out) == {"rows": [row]}
        if log == "json":
            assert json.loads(printed.err)["message"] == f"{row}: {row['label']}"
