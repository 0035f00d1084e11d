"""Threats of docs/security.md that no other test is about; and each test that the page names exists."""

from __future__ import annotations

import ast
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from pyspark.errors import PySparkException
from safetensors.torch import save

from jobs.command import run_command, show_rows
from ptec_udf.config import ScoreConfig, WarehouseConfig
from ptec_udf.config_file import load_config
from ptec_udf.errors import ArtifactError, BackboneError, ConfigError
from ptec_udf.log import configure_log, logger
from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.artifact_format import HEAD, MANIFEST, seal
from ptec_udf.model.backbone import resolve
from ptec_udf.model.manifest import Manifest, TfidfSpec
from ptec_udf.nightly.reason import reason_of
from tests.tiny import tiny_artifact, tiny_backbone

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_artifact(tmp_path / "made")


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "sub/../../outside", "code.py"])
def test_an_artifact_names_no_file_outside_its_folder(folder: Path, name: str) -> None:
    manifest = Manifest.model_validate(json.loads((folder / MANIFEST).read_bytes()))
    files = {known: (folder / known).read_bytes() for known in manifest.files}
    _, sealed = seal(manifest, files | {name: b"x"})  # whoever writes artifacts can compute all hashes
    (folder / MANIFEST).write_bytes(sealed)
    with pytest.raises(ArtifactError, match="model_id and files do not fit"):
        load_artifact(folder)


def test_a_pickle_in_place_of_tensors_is_refused(folder: Path) -> None:
    manifest = Manifest.model_validate(json.loads((folder / MANIFEST).read_bytes()))
    files = {known: (folder / known).read_bytes() for known in manifest.files}
    torch.save({"weight": torch.zeros(1)}, folder / HEAD)
    files[HEAD] = (folder / HEAD).read_bytes()
    _, sealed = seal(manifest, files)
    (folder / MANIFEST).write_bytes(sealed)
    with pytest.raises(ArtifactError, match="must hold its tensors as safetensors"):
        load_artifact(folder)


def test_a_head_without_a_bias_is_refused(folder: Path) -> None:
    manifest = Manifest.model_validate(json.loads((folder / MANIFEST).read_bytes()))
    files = {known: (folder / known).read_bytes() for known in manifest.files}
    (folder / HEAD).write_bytes(save({"weight": torch.zeros(len(manifest.labels), 4)}))
    files[HEAD] = (folder / HEAD).read_bytes()
    (folder / MANIFEST).write_bytes(seal(manifest, files)[1])
    with pytest.raises(ArtifactError, match="must hold a head of all labels"):
        load_artifact(folder)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_probability_is_never_made_of_what_is_no_number(folder: Path, value: float) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["labels"][0] |= {"scale": value, "offset": value}
    manifest["threshold_logit"] = value
    with pytest.raises(ValidationError) as caught:
        Manifest.model_validate(manifest)
    assert {(fault["type"], fault["loc"][-1]) for fault in caught.value.errors()} == {
        ("finite_number", "scale"),
        ("finite_number", "offset"),
        ("finite_number", "threshold_logit"),
    }


def test_code_beside_a_backbone_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _="": "y")  # what transformers would ask, and who would say yes
    made, ran = tmp_path / "backbone", tmp_path / "ran"
    shutil.copytree(tiny_backbone(tmp_path, "bert").removeprefix("path:"), made)
    config = json.loads((made / "config.json").read_text("utf-8"))
    config |= {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}, "model_type": "evil"}
    (made / "config.json").write_text(json.dumps(config), "utf-8")
    (made / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n", "utf-8")
    with pytest.raises(BackboneError, match="custom code"):
        resolve(f"path:{made}").load()
    assert not ran.exists()


def test_an_artifact_names_no_label_twice(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["labels"][1]["name"] = manifest["labels"][0]["name"]
    with pytest.raises(ValidationError, match=f"several times were: '{manifest['labels'][0]['name']}'"):
        Manifest.model_validate(manifest)


def test_a_model_of_terms_reads_a_text_so_many_times_and_no_more() -> None:
    with pytest.raises(ValidationError, match=r"words\n.*less than or equal to 16"):
        TfidfSpec(words=10**12, characters=5)
    with pytest.raises(ValidationError, match=r"characters\n.*less than or equal to 32"):
        TfidfSpec(words=2, characters=10**12)


def test_a_configuration_makes_no_objects(tmp_path: Path) -> None:
    file = tmp_path / "score.yaml"
    ran = tmp_path / "ran"
    file.write_text(f"source: !!python/object/apply:os.system ['touch {ran}']\n", "utf-8")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(ScoreConfig, file)
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(ScoreConfig, None, [f"source=!!python/object/apply:os.system ['touch {ran}']"])
    assert not ran.exists()


@pytest.mark.parametrize("name", ["ptec; DROP TABLE scores", "a`b", "a b", "a.b", "", "é"])
def test_names_that_stand_in_statements_are_plain(name: str) -> None:
    with pytest.raises(ConfigError, match="database"):
        load_config(WarehouseConfig, None, [f"database={yaml.safe_dump(name)}"])
    overrides = ["source.table=x", f"model.alias={yaml.safe_dump(name)}"]
    with pytest.raises(ConfigError, match="alias"):
        load_config(ScoreConfig, None, overrides)


@pytest.mark.parametrize("log", ["text", "json"])
@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_table_holds_does_not_steer_the_terminal(
    as_json: bool, log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"key": "\x1b]0;owned\x07\x1b[2J[red]x", "label": "a\r\nb\u202e\x9b\x7f\U000e0041", "name": "Straße"}

    def work() -> dict[str, Any]:
        configure_log(log, "ptec sql")
        logger.warning(f"{row}: {row['label']}")
        return {"rows": [row]}

    run_command(work, as_json=as_json, show=lambda result: show_rows(result["rows"]))
    printed = capsys.readouterr()
    assert not [letter for letter in printed.out + printed.err if letter != "\n" and not letter.isprintable()]
    assert "[red]x" in printed.out
    assert "Straße" in printed.out
    if as_json:
        assert json.loads(printed.out) == {"rows": [row]}
    if log == "json":
        assert json.loads(printed.err)["message"] == f"{row}: {row['label']}"


def test_a_value_that_is_worded_like_our_own_error_is_not_told() -> None:
    ours = "ptec_udf.errors.ArtifactError: checksum must be that of the manifest"
    worker = f"org.apache.spark.api.python.PythonException: Traceback (most recent call last):\n  File x\n{ours}\n\tat"
    task = "[TASK_WRITE_FAILED] Task failed while writing rows to file:/x. SQLSTATE: 58030"
    assert reason_of(PySparkException(f"Job aborted: {task}\nCaused by: {worker}")) == ours.partition("errors.")[2]
    quote = f"[CAST_INVALID_INPUT] The value 'a\n{worker}\nModuleNotFoundError: No module named 'secret'\n' of the type"
    for message in (quote, f"Job aborted: {task}\nCaused by: org.apache.spark.SparkNumberFormatException: {quote}"):
        assert reason_of(PySparkException(message)) == "PySparkException"
    assert reason_of(PySparkException(f"a value {ours}")) == "PySparkException"
    java = "An error occurred while calling o1.collect.\n: java.lang.OutOfMemoryError: Java heap space"
    assert reason_of(PySparkException(java)).startswith("too little memory for Java (spark.driver.memory")
    assert (
        reason_of(PySparkException("[CAST_INVALID_INPUT] The value 'java.lang.OutOfMemoryError'")) == "PySparkException"
    )


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", PAGE))))
def test_the_page_names_tests_that_there_are(named: str) -> None:
    file, _, test = named.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_threat_has_a_test() -> None:
    threats = PAGE.partition("## Threats")[2]
    rows = [line for line in threats.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) > 15
    assert [row for row in rows if "::" not in row] == []
