"""The main line of ``ptec benchmark``: every method learns, scores the evaluated rows and is measured."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptec_udf.errors import ConfigError, SourceError, collect_errors
from ptec_udf.log import logger
from training.benchmark.compare import Judge, compare, machines
from training.benchmark.config import BenchmarkConfig
from training.benchmark.plots import draw
from training.benchmark.results import Facts, Results, Run
from training.benchmark.table import markdown
from training.data.dataset import Examples, read_splits
from training.data.folder import read_extract_record
from training.data.provenance import is_seen
from training.folders import alone, check_writable
from training.methods.method import Learned, Method, Task
from training.packages import packages


@dataclass(frozen=True)
class Planned:
    """A run that is to be there in the end.

    Attributes:
        name: of the method in this benchmark.
        method: with its settings.
        seed: of the run.
        fingerprint: of everything that decides its result.
    """

    name: str
    method: Method
    seed: int
    fingerprint: str


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Run what is not there yet, compare all runs, and write ``results.json``, ``table.md`` and pictures.

    Returns:
        What ``compare`` gives, the readings of the evaluated rows by method, and the table's place.

    Raises:
        SourceError: for an extract that cannot be used.
        ArtifactError, BackboneError: for an artifact or a backbone that cannot be used.
        ConfigError: for a folder that cannot be written, or what would end a method before it has learned.
        TrainingError: when a method cannot learn.
    """
    record = read_extract_record(config.extract)
    names = [label["name"] for label in record["labels"]]
    splits = read_splits(config.extract, validation_share=config.validation_share)
    evaluated = splits[config.evaluated]
    if not evaluated.targets.any():
        raise SourceError(
            f"rows of {config.evaluated} must carry labels to judge by, {len(evaluated)} rows carry none; "
            "give the extract such rows or evaluate another split"
        )
    results = Results(Path(config.out) / config.evaluated)
    check_writable(results.folder)
    results.folder.mkdir(parents=True, exist_ok=True)
    with alone(results.folder):
        done = _all_runs(config, record, splits, results)
    judge = Judge(names, evaluated.targets, splits["train"].joined(splits["validation"]).targets, config.resamples)
    found = {
        "evaluated": config.evaluated,
        "rows": {split: len(rows) for split, rows in splits.items()},
        "reference": config.reference,
        "settings": {
            name: method.model_dump(mode="json", exclude_unset=True) for name, method in config.methods.items()
        },
        **compare(done, judge, config.reference),
        "readings": results.readings(),
        "machines": machines(done),
    }
    results.write("results.json", json.dumps(found, indent=1) + "\n")
    draw(done, judge, results.folder)
    return {**found, "table": str(results.write("table.md", markdown(found)))}


def _all_runs(
    config: BenchmarkConfig, record: dict[str, Any], splits: Mapping[str, Examples], results: Results
) -> list[Run]:
    """Find the runs that are there, and let the others learn."""
    plan = list(_plan(config, record["fingerprint"]))
    runs = [results.find(planned.name, planned.seed, planned.fingerprint) for planned in plan]

    def task(planned: Planned) -> Task:
        return Task(
            names=[label["name"] for label in record["labels"]],
            train=splits["train"],
            validation=splits["validation"],
            seed=planned.seed,
            extract=Path(config.extract),
            extract_fingerprint=record["fingerprint"],
            template=record["template"],
            validation_share=config.validation_share,
            folder=results.workplace(planned.name, planned.seed),
            shared=results.shared,
        )

    _check([(planned, task(planned)) for planned, run in zip(plan, runs, strict=True) if run is None])
    for at, planned in enumerate(plan):
        if runs[at] is None:
            logger.info(f"run {at + 1} of {len(plan)}: {planned.name}, seed {planned.seed}{_time_left(plan, runs)}")
            runs[at] = _learn_and_score(planned, task(planned), splits[config.evaluated], results)
    shutil.rmtree(results.shared, ignore_errors=True)
    return [run for run in runs if run is not None]


def _check(missing: Sequence[tuple[Planned, Task]]) -> None:
    """Let each method say what would end it, before the first one takes its hours.

    Raises:
        ConfigError: with the faults of all methods.
    """
    faults: list[str] = []
    for name, (planned, task) in {planned.name: (planned, task) for planned, task in missing}.items():
        with collect_errors(faults, f"methods.{name}: "):
            planned.method.check(task)
    if faults:
        raise ConfigError(faults)


def _plan(config: BenchmarkConfig, extract_fingerprint: str) -> Iterator[Planned]:
    """List the runs; a method without chance needs one.

    Raises:
        ConfigError: with the faults of all methods whose backbone or model is missing.
    """
    versions = packages() | {"scikit-learn": importlib.metadata.version("scikit-learn")}
    faults: list[str] = []
    all_facts: dict[str, Any] = {}
    for name, method in config.methods.items():
        with collect_errors(faults, f"methods.{name}: "):
            all_facts[name] = method.facts()
    if faults:
        raise ConfigError(faults)
    for name, method in config.methods.items():
        of_method = [extract_fingerprint, config.validation_share, all_facts[name], versions]
        for seed in config.seeds[: method.n_seeds if method.seeded else 1]:
            facts = json.dumps([*of_method, method.seeded and seed], sort_keys=True)
            fingerprint = hashlib.sha256(facts.encode()).hexdigest()
            yield Planned(name, method, seed, fingerprint)


def _learn_and_score(planned: Planned, task: Task, evaluated: Examples, results: Results) -> Run:
    """Let a method learn, then show it the texts of the evaluated rows, and keep what it says."""
    results.remove(planned.name, planned.seed)  # whose artifact would be another one's, if this run is cut off
    started = time.monotonic()
    learned = planned.method.learn(task)
    learning = time.monotonic() - started if learned.seconds is None else learned.seconds
    _check_not_seen(planned.name, learned, task, evaluated)
    results.note_reading(planned.name, planned.fingerprint)
    started = time.monotonic()
    logits = np.asarray(learned.score(evaluated.texts), np.float32)
    scoring = time.monotonic() - started
    flop = learned.flop_of_scoring and learned.flop_of_scoring(evaluated.texts)
    facts = Facts(
        name=planned.name,
        seed=planned.seed,
        fingerprint=planned.fingerprint,
        deployable=planned.method.deployable,
        learning_seconds=round(learning, 1),
        scoring_seconds=round(scoring, 2),
        learning_flop=learned.flop,
        scoring_flop=None if flop is None else flop / len(evaluated) * 1_000_000,
        made=datetime.now(UTC).date().isoformat(),
        machine=_machine(),
    )
    run = Run(facts, logits, learned.decisions)
    results.add(run)
    return run


def _check_not_seen(name: str, learned: Learned, task: Task, evaluated: Examples) -> None:
    """Refuse a model that has learned from rows that judge, as one that started from an earlier model may have."""
    if learned.seen is None:
        return
    record = read_extract_record(task.extract)
    if n_seen := int(is_seen(learned.seen, record, evaluated.keys, evaluated.texts).sum()):
        raise SourceError(
            f"a model must not have learned from rows that judge here, {name} has from {n_seen} of {len(evaluated)}; "
            "train it, and what it started from, without them"
        )


def _machine() -> str:
    """Say what computes, without the machine's name."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    processor = f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}"
    return f"{processor}, {torch.get_num_threads()} threads, torch {torch.__version__}{gpu}"


def _time_left(plan: Sequence[Planned], runs: Sequence[Run | None]) -> str:
    """Say about how long the runs that lack take, where a run of the same method is known."""
    seconds = {run.facts.name: run.facts.learning_seconds + run.facts.scoring_seconds for run in runs if run}
    missing = [planned.name for planned, run in zip(plan, runs, strict=True) if run is None]
    unknown = sorted(set(missing) - set(seconds))
    known = sum(seconds.get(name, 0.0) for name in missing)
    if not known:
        return ""
    return f", about {known / 60:.0f} min left" + (f" and what {', '.join(unknown)} take" if unknown else "")
