"""Registry: copies that are whole, aliases that move forward and all the way back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pyspark.sql import functions as F
from safetensors.torch import save

from ptec_udf.errors import ArtifactError, BackboneError, RegistryError
from ptec_udf.model.artifact import ADAPTER, ADAPTER_CONFIG, HEAD, METRICS, load_artifact, seal
from ptec_udf.model.manifest import BackboneRef, ExtractOrigin, Label, Manifest, PromptSpec
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.tables import Warehouse

NAMES = ("Fintech", 'it\'s "other"')


def make_artifact(folder: Path, seed: int = 0) -> Path:
    """Write an artifact that cannot score; another seed is another model."""
    manifest = Manifest(
        created="2026-01-02T03:04:05+00:00",
        backbone=BackboneRef(name="path:/nowhere", content_hash="b" * 64),
        template="{name}",
        max_tokens=8,
        pooling="mean",
        prompt=PromptSpec(kind="input", n_tokens=1, attention="prefix"),
        threshold_logit=0.0,
        labels=[Label(name=name, threshold=0.7, scale=2.0, offset=-1.0, training_positives=9) for name in NAMES],
        extract=ExtractOrigin(fingerprint="f" * 64, source="crm.companies", source_id="s", version=4),
        packages={},
    )
    per_label = {NAMES[0]: {"f1": 0.5, "ap": 0.25}, NAMES[1]: {"f1": None, "ap": None}}
    metrics = {"splits": {"dev": {"overall": {"macro_f1": 0.5, "map": 0.625}, "per_label": per_label}}}
    files = {
        HEAD: save({"weight": torch.full((2, 2), float(seed)), "bias": torch.zeros(2)}),
        ADAPTER: save({"prompt_embeddings": torch.zeros(1, 2)}),
        ADAPTER_CONFIG: b"{}",
        METRICS: json.dumps(metrics).encode(),
    }
    place = folder / f"model-{seed}"
    place.mkdir(parents=True)
    for name, content in seal(manifest, files).items():
        (place / name).write_bytes(content)
    return place


@pytest.fixture
def keep(tmp_path: Path) -> Path:
    """Folder of registered artifacts."""
    return tmp_path / "keep"


def register(warehouse: Warehouse, keep: Path, *seeds: int) -> list[str]:
    made = [make_artifact(keep.parent / "made", seed) for seed in seeds]
    return [registry.register(warehouse, folder, keep, folder.name) for folder in made]


def promote(warehouse: Warehouse, model_id: str, **more: Any) -> dict[str, Any]:
    options = {"alias": "champion", "who": "tester", "why": "better", "check": lambda *_: None} | more
    return registry.promote(warehouse, model_id, **options)


def rollback(warehouse: Warehouse, check: Callable[[str, str], None] = lambda *_: None) -> str:
    """Roll back; return the current model."""
    return registry.rollback(warehouse, alias="champion", who="tester", why="worse", check=check)["model_id"]


def champion(warehouse: Warehouse) -> str:
    return registry.find(warehouse, alias="champion")["model_id"]


class TestRegister:
    def test_copies_the_artifact_and_writes_rows(self, warehouse: Warehouse, keep: Path) -> None:
        (model_id,) = register(warehouse, keep, 1)
        row = registry.find(warehouse, model_id=model_id[:8])
        assert load_artifact(row["location"]).model_id == model_id
        assert [place.name for place in keep.iterdir()] == [model_id]
        assert (row["name"], row["labels"], row["extract_version"]) == ("model-1", list(NAMES), 4)
        assert registry.labels(warehouse, model_id) == (list(NAMES), pytest.approx([0.7, 0.7]))
        figures = warehouse.read("labels").orderBy("position").select("dev_f1", "dev_ap", "training_positives")
        assert [tuple(row) for row in figures.collect()] == [(0.5, 0.25, 9), (None, None, 9)]

    def test_twice_only_repairs_a_broken_copy(
        self, warehouse: Warehouse, keep: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (model_id,) = register(warehouse, keep, 1)
        versions = [warehouse.version(table) for table in ("models", "labels")]
        (keep / model_id / HEAD).write_bytes(b"broken")
        assert registry.register(warehouse, keep.parent / "made" / "model-1", keep, "other name") == model_id
        assert "is already registered as 'model-1'" in capsys.readouterr().err
        assert [warehouse.version(table) for table in ("models", "labels")] == versions
        assert load_artifact(keep / model_id).model_id == model_id


class TestFind:
    def test_names_the_missing_or_ambiguous_model(
        self, warehouse: Warehouse, keep: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(RegistryError, match="no model has the alias 'champion'"):
            registry.find(warehouse, alias="champion")
        with pytest.raises(RegistryError, match="begins with 'abcabc'"):
            registry.find(warehouse, model_id="abcabc")
        for short in ("", "abcde"):
            with pytest.raises(RegistryError, match="model_id must have at least 6 characters"):
                promote(warehouse, short)
        ids = register(warehouse, keep, 1, 2)
        monkeypatch.setattr(registry, "MIN_ID", 0)  # as if both ids began alike
        with pytest.raises(RegistryError) as caught:
            registry.find(warehouse, model_id="")
        assert all(model_id in str(caught.value) for model_id in ids)

    def test_list_has_aliases_and_figures(self, warehouse: Warehouse, keep: Path) -> None:
        a, b = register(warehouse, keep, 1, 2)
        promote(warehouse, a)
        promote(warehouse, a, alias="next")
        rows = registry.list_models(warehouse)
        assert [(row["model_id"], row["aliases"]) for row in rows] == [(b, []), (a, ["champion", "next"])]
        assert (rows[0]["dev_macro_f1"], rows[0]["dev_map"], rows[0]["n_labels"]) == (0.5, 0.625, 2)
        assert rows[0]["created"] == "2026-01-02T03:04:05+00:00"


class TestMoves:
    def test_nothing_moves_when_the_check_fails(self, warehouse: Warehouse, keep: Path) -> None:
        (model_id,) = register(warehouse, keep, 1)
        seen = []

        def check(location: str, model_id: str) -> None:
            seen.append(location)
            raise BackboneError("the backbone is missing")

        with pytest.raises(BackboneError):
            promote(warehouse, model_id, check=check)
        assert seen == [str(keep / model_id)]
        assert warehouse.read("aliases").isEmpty()

    def test_rollback_goes_back_step_by_step(self, warehouse: Warehouse, keep: Path) -> None:
        a, b, c = register(warehouse, keep, 1, 2, 3)
        for model_id in (a, b, a, c):
            promote(warehouse, model_id)
        assert [rollback(warehouse) for _ in range(2)] == [a, b]
        assert promote(warehouse, c)["previous"] == b
        assert [rollback(warehouse) for _ in range(2)] == [b, a]
        with pytest.raises(RegistryError, match=f"it points to its first model, {a}"):
            rollback(warehouse)

        def check(location: str, model_id: str) -> None:
            raise ArtifactError(f"{model_id} is broken")

        promote(warehouse, b)
        with pytest.raises(RegistryError, match=f"cannot go back to model {a}; promote another model: {a} is broken"):
            rollback(warehouse, check)
        assert champion(warehouse) == b
        times = [row.at for row in warehouse.read("aliases").orderBy("at").collect()]
        assert len(set(times)) == len(times) == 10

    def test_of_two_at_once_the_second_is_refused(
        self, warehouse: Warehouse, keep: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        a, b, c = register(warehouse, keep, 1, 2, 3)
        put = Warehouse.put_row

        def another_is_quicker(self: Warehouse, *args: Any) -> None:
            monkeypatch.setattr(Warehouse, "put_row", put)
            promote(warehouse, c)
            put(self, *args)

        for before in (0, 2):
            monkeypatch.setattr(Warehouse, "put_row", another_is_quicker)
            with pytest.raises(RegistryError, match="was moved by another process"):
                promote(warehouse, b)
            assert champion(warehouse) == c
            assert warehouse.read("aliases").count() == before + 1
            promote(warehouse, a)

    def test_is_later_than_a_move_of_a_fast_clock(self, warehouse: Warehouse, keep: Path) -> None:
        a, b = register(warehouse, keep, 1, 2)
        ahead = {"alias": "champion", "model_id": a, "move": "promote", "at": F.lit("2999-01-01").cast("timestamp")}
        columns = [value.alias(name) if name == "at" else F.lit(value).alias(name) for name, value in ahead.items()]
        warehouse.append("aliases", warehouse.spark.range(1).select(*columns))
        assert promote(warehouse, b) == {"alias": "champion", "model_id": b, "previous": a, "gate": None}
        version = warehouse.version("aliases")
        assert promote(warehouse, b)["previous"] == b
        assert warehouse.version("aliases") == version
