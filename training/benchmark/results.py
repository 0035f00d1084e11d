"""The runs of a benchmark on disk: each a folder with its facts and its scores of the evaluated rows.

A run appears whole or not at all, so that a killed benchmark goes on after its last whole run.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ptec_udf.errors import SourceError
from training.calibrate.calibrate import Calibration
from training.calibrate.decide import Decisions
from training.folders import put_in_place

_FACTS, _SCORES, _READINGS = "run.json", "scores.safetensors", "readings.json"


@dataclass(frozen=True)
class Facts:
    """What a run was.

    Attributes:
        name: of the method in this benchmark.
        seed: of the run.
        fingerprint: of extract, split and settings; a run of another one is not kept.
        deployable: whether ``ptec score`` takes such a model.
        learning_seconds: all that came before the evaluated rows, choices on validation included; of methods that train
            by epochs the epochs, lower layers and words, without loading, tokenising and choices of thresholds.
        scoring_seconds: of the evaluated rows.
        learning_flop: floating-point operations of learning; None: not known, or there are none.
        scoring_flop: the same of scoring a million texts like the evaluated ones.
        made: day of the run, as in 2026-05-31; empty: not known, as of runs of old.
        machine: what computed, so that seconds of several can be told apart.
    """

    name: str
    seed: int
    fingerprint: str
    deployable: bool
    learning_seconds: float
    scoring_seconds: float
    learning_flop: float | None = None
    scoring_flop: float | None = None
    made: str = ""
    machine: str = ""


@dataclass(frozen=True)
class Run:
    """Facts and scores.

    Attributes:
        facts: what it was.
        logits: of the evaluated rows, *Shape:* ``(n_rows, n_labels)``; without decisions: 0 and 1.
        decisions: threshold and calibration; None for methods that only decide.
    """

    facts: Facts
    logits: NDArray[np.floating]
    decisions: Decisions | None

    @property
    def decided(self) -> NDArray[np.bool_]:
        """Labels given, *Shape:* ``(n_rows, n_labels)``."""
        return self.logits >= 0.5 if self.decisions is None else self.decisions.decide(self.logits)


class Results:
    """The folder of a benchmark's runs on one split."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, which need not be there yet."""
        self.folder = folder

    @property
    def shared(self) -> Path:
        """Where methods may keep what several runs need."""
        return self.folder / "models" / ".shared"

    def workplace(self, name: str, seed: int) -> Path:
        """Where the run's method may keep files."""
        return self.folder / "models" / f"{name}-{seed}"

    def find(self, name: str, seed: int, fingerprint: str) -> Run | None:
        """Return a run that is done, or None.

        Raises:
            SourceError: for a run that cannot be read.
        """
        place = self._place(name, seed)
        if not place.exists():
            return None
        try:
            facts = Facts(**json.loads((place / _FACTS).read_text(encoding="utf-8")))
            values = load_file(place / _SCORES)
            decisions = None
            if "scale" in values:
                curve = [(origin, to) for origin, to in values["curve"].tolist()] if "curve" in values else None
                calibration = Calibration(values["scale"], values["offset"], curve)
                decisions = Decisions(calibration, float(values["common"][0]), values["thresholds"])
            run = Run(facts, values["logits"], decisions)
        except (OSError, ValueError, TypeError, KeyError, SafetensorError):
            raise SourceError(f"a kept run must be whole, {str(place)!r} is not; remove it to run it again") from None
        return run if facts.fingerprint == fingerprint else None

    def add(self, run: Run) -> None:
        """Keep a run in the place of an earlier one of its name and seed."""
        place = self._place(run.facts.name, run.facts.seed)
        partial = place.with_name(f".{place.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        values: dict[str, NDArray[np.floating]] = {"logits": np.ascontiguousarray(run.logits, np.float32)}
        if run.decisions is not None:
            calibration = run.decisions.calibration
            values |= {"scale": calibration.scale, "offset": calibration.offset}
            if calibration.curve is not None:
                values["curve"] = np.array(calibration.curve)
            values |= {
                "common": np.array([run.decisions.common_threshold]),
                "thresholds": run.decisions.threshold_logits,
            }
        save_file(values, partial / _SCORES)
        (partial / _FACTS).write_text(json.dumps(asdict(run.facts), indent=1) + "\n", encoding="utf-8")
        put_in_place(partial, place)

    def remove(self, name: str, seed: int) -> None:
        """Remove what is kept of a run."""
        shutil.rmtree(self._place(name, seed), ignore_errors=True)

    def note_reading(self, name: str, fingerprint: str) -> None:
        """Note that a model of this name is about to be measured on the evaluated rows; the same one counts once."""
        read = self._read_by()
        read[name] = sorted({*read.get(name, []), fingerprint})
        self.write(_READINGS, json.dumps(read, indent=1, sort_keys=True) + "\n")

    def readings(self) -> dict[str, int]:
        """How many models of each name were measured, all settings and seeds counted.

        Raises:
            SourceError: for a file of readings that cannot be read.
        """
        return {name: len(fingerprints) for name, fingerprints in self._read_by().items()}

    def _read_by(self) -> dict[str, list[str]]:
        file = self.folder / _READINGS
        try:
            read = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            return {name: list(fingerprints) for name, fingerprints in read.items()}
        except (ValueError, TypeError, AttributeError):
            raise SourceError(
                f"the readings must be fingerprints by method in JSON, {str(file)!r} is not so; mend or remove it"
            ) from None

    def write(self, name: str, text: str) -> Path:
        """Write a file of the whole benchmark in one go; return its place."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / name
        partial = file.with_name(f".{name}.partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, file)
        return file

    def _place(self, name: str, seed: int) -> Path:
        return self.folder / "runs" / f"{name}-{seed}"
