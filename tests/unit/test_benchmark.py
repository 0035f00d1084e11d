"""A benchmark of made-up companies: what it measures, what it keeps, and what it resumes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.axes import Axes

from ptec_udf.config_file import load_config
from ptec_udf.errors import ConfigError, SourceError, TrainingError
from tests.tiny import tiny_backbone, write_rows
from tests.variants import seen_of, variant
from training.benchmark.config import BenchmarkConfig
from training.benchmark.results import Results
from training.benchmark.run import benchmark
from training.data.folder import DATA
from training.fit import layer_cache as below
from training.fit.trainer import Trainer
from training.methods.compression import Compression
from training.methods.tfidf import Tfidf

PTEC = "method: ptec, max_tokens: 32, dtype: float32, prompt: {n_tokens: 4}, stopping: {epochs: 1}"


@pytest.fixture
def ptec(tiny_folder):
    """Gives the setting that adds a short training of PTEC."""
    return f"methods.ptec={{{PTEC}, backbone: '{tiny_backbone(tiny_folder, 'bert')}'}}"


@pytest.fixture
def config(companies, tmp_path):
    """Gives the configuration of a benchmark of two quick methods, with other settings where given."""
    methods = ("methods.tfidf={method: tfidf}", "methods.gzip={method: gzip}", "reference=tfidf")
    given = (f"extract={companies}", f"out={tmp_path / 'out'}", "seeds=[1, 2]", "resamples=100", *methods)
    return lambda *settings: load_config(BenchmarkConfig, None, [*given, *settings])


@pytest.fixture
def draws_nothing(monkeypatch):
    """Pictures take longer than these methods, and have a test of their own."""
    monkeypatch.setattr("training.benchmark.run.draw", lambda *_: None)


@pytest.mark.usefixtures("draws_nothing")
def test_every_method_is_measured_and_compared(config, ptec, tmp_path):
    found = benchmark(config(ptec, "reference=ptec"))
    assert found["rows"] == {"train": 204, "validation": 36, "dev": 30, "test": 30}
    seeds = {name: figures["seeds"] for name, figures in found["methods"].items()}
    assert seeds == {"ptec": [1, 2], "tfidf": [1], "gzip": [1]}
    assert found["methods"]["tfidf"]["map"] > 0.5
    assert found["methods"]["gzip"]["map"] is None
    assert found["methods"]["gzip"]["macro_f1"] > 0.3
    assert set(found["differences"]) == {"tfidf", "gzip"}
    assert set(found["differences"]["gzip"]) == {"macro_f1"}
    assert found["readings"] == {"ptec": 2, "tfidf": 1, "gzip": 1}
    flop = {name: (figures["learning_flop"], figures["scoring_flop"]) for name, figures in found["methods"].items()}
    assert flop["gzip"] == (None, None)
    assert flop["ptec"][0] > flop["tfidf"][0] > 0
    assert flop["ptec"][1] > flop["tfidf"][1] > 1_000_000
    table = Path(found["table"]).read_text(encoding="utf-8")
    assert "| ptec | 2 | " in table
    assert f" | {flop['ptec'][0]:.1e} | {flop['ptec'][1]:.1e} | yes | 2 |" in table
    assert " | - | - | no | 1 |" in table
    [machine] = found["machines"]
    assert machine["methods"] == ["gzip", "ptec", "tfidf"]
    assert f"\nRun on {machine['machine']}, {machine['to']}: gzip, ptec, tfidf.\n" in table
    assert json.loads((tmp_path / "out" / "dev" / "results.json").read_text())["methods"] == found["methods"]
    assert (tmp_path / "out" / "dev" / "models" / "ptec-2" / "artifact" / "manifest.json").is_file()


@pytest.mark.usefixtures("draws_nothing")
def test_runs_that_are_there_are_kept_and_nothing_is_read_twice(config, monkeypatch, tmp_path):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Compression, "learn", _stop)
        benchmark(config())
    assert not (tmp_path / "out" / "dev" / "results.json").exists()
    with monkeypatch.context() as patched:
        patched.setattr(Tfidf, "learn", _stop)  # it ran before the kill
        resumed = benchmark(config())
    assert resumed["readings"] == {"tfidf": 1, "gzip": 1}
    shutil.rmtree(tmp_path / "out")
    undisturbed = benchmark(config())
    assert _without_seconds(resumed) == _without_seconds(undisturbed)


@pytest.mark.usefixtures("draws_nothing")
def test_a_run_goes_when_another_one_may_write_over_its_artifact(config, monkeypatch):
    benchmark(config())
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("training.benchmark.run._check_not_seen", _stop)
        benchmark(config("methods.tfidf.words=1"))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Tfidf, "learn", _stop)
        benchmark(config())


@pytest.mark.usefixtures("draws_nothing")
def test_a_method_with_other_settings_runs_and_is_read_again(config):
    benchmark(config())
    found = benchmark(config("methods.tfidf.words=1"))
    assert found["readings"] == {"tfidf": 2, "gzip": 1}


@pytest.mark.usefixtures("draws_nothing")
def test_labels_of_the_evaluated_rows_change_no_run(config, companies, tmp_path):
    other = shutil.copytree(companies, tmp_path / "other")
    rows = pq.read_table(companies / DATA).to_pylist()
    write_rows(other, [row | ({"labels": ["media"]} if row["split"] == "dev" else {}) for row in rows])
    benchmark(config())
    benchmark(config(f"extract={other}", f"out={tmp_path / 'again'}"))
    for name in ("tfidf-1", "gzip-1"):
        first, second = (tmp_path / out / "dev" / "runs" / name / "scores.safetensors" for out in ("out", "again"))
        assert first.read_bytes() == second.read_bytes()


def test_evaluated_rows_without_labels_are_refused(config, companies, tmp_path):
    other = shutil.copytree(companies, tmp_path / "other")
    rows = pq.read_table(companies / DATA).to_pylist()
    write_rows(other, [row for row in rows if row["split"] != "dev"])
    with pytest.raises(SourceError, match="rows of dev must carry labels to judge by, 0 rows carry none"):
        benchmark(config(f"extract={other}"))


@pytest.mark.usefixtures("draws_nothing")
def test_what_seeds_share_is_computed_once_and_removed(config, tiny_folder, tmp_path, monkeypatch):
    written = []
    make = below._make
    monkeypatch.setattr(below, "_make", lambda *given: written.append(given[2].name) or make(*given))
    shares = PTEC.replace("n_tokens: 4", "n_tokens: 4, upper_layers: 1")
    benchmark(config(f"methods.ptec={{{shares}, backbone: '{tiny_backbone(tiny_folder, 'mpnet')}'}}"))
    assert len(written) == len(set(written)) == 2  # train and validation
    models = tmp_path / "out" / "dev" / "models"
    assert sorted(place.name for place in models.iterdir()) == ["ptec-1", "ptec-2", "tfidf-1"]


@pytest.mark.usefixtures("draws_nothing")
def test_methods_that_differ_in_words_only_are_trained_once(config, ptec, monkeypatch):
    seeds = []
    epoch = Trainer._epoch
    monkeypatch.setattr(Trainer, "_epoch", lambda self, *given: seeds.append(self.config.seed) or epoch(self, *given))
    found = benchmark(config(ptec, ptec.replace("methods.ptec={", "methods.with_words={terms: {}, n_seeds: 1, ")))
    assert seeds == [1, 1, 2, 2]  # an epoch with validation held out, and one with it
    assert [found["methods"][name]["seeds"] for name in ("ptec", "with_words")] == [[1, 2], [1]]
    assert found["methods"]["with_words"]["learning_flop"] > found["methods"]["ptec"]["learning_flop"]


@pytest.mark.usefixtures("draws_nothing")
def test_artifact_that_has_learned_from_rows_that_judge_is_refused_unread(config, run, companies, tmp_path):
    run(tmp_path / "made", epochs=1)
    judged = variant(tmp_path / "made", tmp_path / "judged", seen=seen_of(companies, "dev"))
    with pytest.raises(SourceError, match=r"made has from 30 of 30; train it, and what it started from, without them"):
        benchmark(config(f"methods.made={{method: artifact, folder: '{judged}'}}"))
    found = benchmark(config(f"methods.made={{method: artifact, folder: '{tmp_path / 'made'}'}}"))
    assert found["readings"] == {"tfidf": 1, "gzip": 1, "made": 1}


def test_method_that_cannot_learn_ends_the_benchmark_and_loses_nothing(config, ptec, tmp_path):
    with pytest.raises(TrainingError):
        benchmark(config(ptec, "methods.ptec.optimiser={prompt_lr: 1.0e+30, batch_rows: 4}"))
    assert (tmp_path / "out" / "dev" / "runs" / "gzip-1").is_dir()


@pytest.mark.usefixtures("draws_nothing")
def test_reading_that_was_cut_off_counts_once(config, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Results, "add", _stop)
        benchmark(config())
    assert benchmark(config())["readings"] == {"tfidf": 1, "gzip": 1}


def test_what_would_end_a_method_is_told_before_the_first_one_learns(config, ptec, tiny_folder, monkeypatch):
    monkeypatch.setattr(Tfidf, "learn", _stop)
    long = ptec.replace("ptec=", "long=").replace("4}", "900}")
    lora = (
        f"{{method: lora, max_tokens: 32, lora: {{layers: [none]}}, backbone: '{tiny_backbone(tiny_folder, 'bert')}'}}"
    )
    frozen = [
        f"methods.{name}={{method: {method}, backbone: '{tiny_backbone(tiny_folder, 'bert')}', {setting}}}"
        for name, method, setting in (
            ("head", "head", "max_tokens: 900"),
            ("knn", "knn", "max_tokens: 32, sizes: [100000]"),
        )
    ]
    with pytest.raises(ConfigError) as caught:
        benchmark(config(ptec, "methods.ptec.prompt.upper_layers=1", long, f"methods.lora={lora}", *frozen))
    first, second, third, *of_frozen = caught.value.errors
    assert first == "methods.ptec: prompt.upper_layers must be null but for MPNet, was: 1 for bert"
    assert second.startswith("methods.long: max_tokens + prompt.n_tokens must be at most ")
    assert third.startswith("methods.lora: lora.layers must be linear layers of the backbone")
    assert [fault.split(" must be")[0] for fault in of_frozen] == [
        "methods.head: max_tokens + prompt.n_tokens",
        "methods.knn: one of sizes",
    ]


def test_all_backbones_that_are_missing_are_told_at_once(config):
    missing = [f"methods.{name}={{method: {name}, backbone: 'path:/none/{name}'}}" for name in ("head", "knn")]
    with pytest.raises(ConfigError) as caught:
        benchmark(config(*missing))
    assert [fault[: fault.index(":")] for fault in caught.value.errors] == ["methods.head", "methods.knn"]


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("methods.tfidf.wrods=2", "methods.tfidf.wrods: unknown key; did you mean 'words'?"),
        ("methods.ptec.prompt.kindd=x", "methods.ptec.prompt.kindd: unknown key; did you mean 'kind'?"),
        ("methods.new={method: lora, prompt: {}}", "methods.new: prompt must not be set for lora, which trains none"),
        ("methods.ptec.lora={}", "methods.ptec: lora must not be set for ptec, which trains a prompt"),
        ("methods.ptec.prompt.n_tokens=0", "methods.ptec.prompt.n_tokens: must be greater than or equal"),
        ("methods.new={words: 2}", "methods.new: 'method' must be set"),
        ("methods.new={method: none}", "does not match any of the expected tags: 'ptec'"),
        ("methods.a/b={method: gzip}", "methods.a/b: must match pattern"),
        ("reference=none", "reference must be one of tfidf, gzip, ptec, was: 'none'"),
        ("seeds=[5, 5]", "seeds must differ"),
        ("seeds=[-1]", "seeds.0: must be greater than or equal to 0, was: -1"),
        ("methods.ptec.stopping.validation_share=.3", "stopping.validation_share must not be set for one method"),
        ("methods.new={method: knn, sizes: [0]}", "methods.new.sizes.0: must be greater than or equal to 1"),
        ("evaluated=validation", "evaluated: must be 'dev' or 'test', was: 'validation'"),
    ],
)
def test_faults_of_a_configuration_are_named(config, ptec, setting, fault):
    with pytest.raises(ConfigError) as caught:
        config(ptec, setting)
    (found,) = caught.value.errors
    assert fault in found


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _without_seconds(found: dict) -> dict:
    methods = {
        name: {key: value for key, value in figures.items() if not key.endswith("seconds")}
        for name, figures in found["methods"].items()
    }
    return found | {"methods": methods}


def test_pictures_show_every_method(config, ptec, tmp_path, monkeypatch):
    """Methods with scores have a curve in each picture, those without a place in two."""
    labels: dict[str, list[str]] = {}

    def legend(axes, **options):
        name = axes.get_xlabel().split()[0]
        labels[name] = [line.get_label() for line in axes.lines]
        assert all(np.isfinite(line.get_xydata().astype(float)).all() for line in axes.lines)
        assert all(len(line.get_xydata()) for line in axes.lines)

    monkeypatch.setattr(Axes, "legend", legend)
    benchmark(config(ptec))
    assert labels == {
        "recall": ["tfidf", "gzip", "ptec"],
        "probability,": ["perfect", "tfidf", "ptec"],
        "training": ["tfidf", "gzip", "ptec"],
    }
    for name in ("precision_recall", "reliability", "f1_by_frequency"):
        assert (tmp_path / "out" / "dev" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("draws_nothing")
def test_runs_on_test_stand_beside_those_on_dev(config, tmp_path):
    first, second = benchmark(config()), benchmark(config("evaluated=test"))
    assert first["readings"] == second["readings"] == {"tfidf": 1, "gzip": 1}
    assert first["methods"] != second["methods"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"dev", "test"}


def test_place_that_cannot_be_written_is_refused_before_any_work(config, tmp_path, monkeypatch):
    monkeypatch.setattr(Tfidf, "learn", _stop)
    (tmp_path / "file").write_text("")
    for out in ("file", "file/out"):
        with pytest.raises(ConfigError, match="out must be in a folder that can be written"):
            benchmark(config(f"out={tmp_path / out}"))


@pytest.mark.parametrize("name", ["run.json", "scores.safetensors"])
def test_broken_run_is_named(config, tmp_path, name):
    benchmark(config())
    (tmp_path / "out" / "dev" / "runs" / "gzip-1" / name).write_text("{")
    with pytest.raises(SourceError, match=r"must be whole, .*gzip-1.* is not; remove it"):
        benchmark(config())
