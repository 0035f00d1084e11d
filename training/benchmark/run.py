"""The main line of ``ptec benchmark``: every method learns, scores the evaluated rows and is measured."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ptec_udf.errors import ConfigError, SourceError, collect_errors
from ptec_udf.log import logger
from training.benchmark.compare import compare, markdown
from training.benchmark.config import BenchmarkConfig
from training.calibrate.calibration import Calibration
from training.calibrate.decisions import Decisions
from training.data.dataset import Examples, read_splits
from training.data.folder import read_extract_record
from training.data.provenance import is_seen
from training.folders import check_writable, lock_folder
from training.methods.method import Method, Task
from training.packages import packages


@dataclass(frozen=True)
class Facts:
    """What a run was; ``fingerprint`` identifies everything that decides its result."""

    name: str
    seed: int
    fingerprint: str
    deployable: bool
    learning_seconds: float
    scoring_seconds: float
    date: str
    machine: str


@dataclass(frozen=True)
class Run:
    """A method's result with one seed.

    Attributes:
        facts: what it was.
        logits: of the evaluated rows, *Shape:* ``(n_rows, n_labels)``; without decisions: 0 and 1.
        decisions: thresholds and calibration; None for methods that only decide.
    """

    facts: Facts
    logits: NDArray[np.floating]
    decisions: Decisions | None

    @property
    def decided(self) -> NDArray[np.bool_]:
        """The labels of the rows, *Shape:* ``(n_rows, n_labels)``."""
        return self.logits >= 0.5 if self.decisions is None else self.decisions.decide(self.logits)


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Run what is missing, compare all runs, and write ``results.json`` and ``table.md``.

    Returns:
        The result of ``compare``, and the path of the table.

    Raises:
        SourceError: for an extract that cannot be used.
        ArtifactError, BackboneError: for an artifact or a backbone that cannot be used.
        ConfigError: for a folder that cannot be written, or settings that would stop a method.
        TrainingError: when a method cannot learn.
    """
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
    found = {
        "evaluated": config.evaluated,
        "rows": {split: len(rows) for split, rows in splits.items()},
        "settings": {
            name: method.model_dump(mode="json", exclude_unset=True) for name, method in config.methods.items()
        },
        **compare(runs, evaluated.targets, splits["train"].concat(splits["validation"]).targets, config),
        "runs": [asdict(run.facts) for run in runs],
    }
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(markdown(found), encoding="utf-8")
    return {**found, "table": str(folder / "table.md")}


def _run_all(config: BenchmarkConfig, record: dict[str, Any], splits: dict[str, Examples], folder: Path) -> list[Run]:
    """Read the runs that exist, and let the other methods learn."""
    plan = list(_plan(config, record["fingerprint"]))
    runs = [_read(_file(folder, name, seed), fingerprint) for name, _, seed, fingerprint in plan]
    tasks = [
        Task(
            names=[label["name"] for label in record["labels"]],
            train=splits["train"],
            validation=splits["validation"],
            seed=seed,
            extract=Path(config.extract),
            record=record,
            validation_share=config.validation_share,
            folder=folder / "models" / f"{name}-{seed}",
        )
        for name, _, seed, _ in plan
    ]
    errors: list[str] = []
    missing = {name: (method, task) for (name, method, *_), run, task in zip(plan, runs, tasks, strict=True) if not run}
    for name, (method, task) in missing.items():
        with collect_errors(errors, f"methods.{name}: "):
            method.check(task)  # before the first method takes its hours
    if errors:
        raise ConfigError(errors)
    for at, ((name, method, seed, fingerprint), task) in enumerate(zip(plan, tasks, strict=True)):
        if runs[at] is None:
            logger.info(f"run {at + 1} of {len(plan)}: {name}, seed {seed}")
            run = _learn_and_score(name, method, fingerprint, task, splits[config.evaluated])
            _write(_file(folder, name, seed), run)
            runs[at] = run
    return [run for run in runs if run is not None]


def _plan(config: BenchmarkConfig, extract_fingerprint: str) -> Iterator[tuple[str, Method, int, str]]:
    """Yield name, method, seed and fingerprint of each run; a method without chance needs one.

    Raises:
        ConfigError: with the errors of all methods whose backbone or model is missing.
    """
    versions = packages() | {"scikit-learn": importlib.metadata.version("scikit-learn")}
    errors: list[str] = []
    facts: dict[str, Any] = {}
    for name, method in config.methods.items():
        with collect_errors(errors, f"methods.{name}: "):
            facts[name] = method.facts()
    if errors:
        raise ConfigError(errors)
    for name, method in config.methods.items():
        for seed in config.seeds[: method.n_seeds if method.seeded else 1]:
            whole = [extract_fingerprint, config.validation_share, facts[name], versions, method.seeded and seed]
            yield name, method, seed, hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _learn_and_score(name: str, method: Method, fingerprint: str, task: Task, evaluated: Examples) -> Run:
    """Let a method learn, then score the evaluated rows."""
    started = time.monotonic()
    learned = method.learn(task)
    learning = time.monotonic() - started if learned.seconds is None else learned.seconds
    if learned.seen is not None:
        n_seen = int(is_seen(learned.seen, task.record, evaluated.keys, evaluated.texts).sum())
        if n_seen:
            raise SourceError(f"{name} has learned from {n_seen} of {len(evaluated)} evaluated rows; train it again")
    started = time.monotonic()
    logits = np.asarray(learned.score(evaluated.texts), np.float32)
    facts = Facts(
        name=name,
        seed=task.seed,
        fingerprint=fingerprint,
        deployable=method.deployable,
        learning_seconds=round(learning, 1),
        scoring_seconds=round(time.monotonic() - started, 2),
        date=datetime.now(UTC).date().isoformat(),
        machine=_machine(),
    )
    return Run(facts, logits, learned.decisions)


def _machine() -> str:
    """Describe what computes, without the machine's name."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    cpu = f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}"
    return f"{cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}{gpu}"


def _file(folder: Path, name: str, seed: int) -> Path:
    return folder / "runs" / f"{name}-{seed}.safetensors"


def _write(file: Path, run: Run) -> None:
    """Write a run in one rename, its facts as the file's metadata."""
    values: dict[str, NDArray[Any]] = {"logits": np.ascontiguousarray(run.logits, np.float32)}
    if run.decisions is not None:
        calibration = run.decisions.calibration
        values |= {"scale": calibration.scale, "offset": calibration.offset, "thresholds": run.decisions.thresholds}
        values["common"] = np.array([run.decisions.common_threshold])
        if calibration.curve is not None:
            values["curve"] = np.array(calibration.curve)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_bytes(save(values, metadata={"facts": json.dumps(asdict(run.facts))}))
    partial.replace(file)


def _read(file: Path, fingerprint: str) -> Run | None:
    """Read a run; None where there is none, or one of other settings.

    Raises:
        SourceError: for a file that cannot be read.
    """
    if not file.exists():
        return None
    try:
        with safe_open(file, "numpy") as opened:
            facts = Facts(**json.loads(opened.metadata()["facts"]))
            values = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, ValueError, TypeError, KeyError, SafetensorError):
        raise SourceError(f"a kept run must be whole, {str(file)!r} is not; remove it to run it again") from None
    decisions = None
    if "scale" in values:
        curve = [(before, after) for before, after in values["curve"].tolist()] if "curve" in values else None
        calibration = Calibration(values["scale"], values["offset"], curve)
        decisions = Decisions(calibration, float(values["common"][0]), values["thresholds"])
    return Run(facts, values["logits"], decisions) if facts.fingerprint == fingerprint else None
