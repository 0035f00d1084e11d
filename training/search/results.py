"""What a study has found: the best settings over seeds, as a table, pictures and a configuration for ``ptec train``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from ptec_udf.errors import TrainingError
from ptec_udf.model.backbone import resolve
from ptec_udf.model.manifest import LONGEST_SEGMENT
from training.data.folder import read_extract_record
from training.packages import packages
from training.search.config import RESULTS, SearchConfig, with_settings

BEST = "best.yaml"
_HEADER = """# Settings that ptec search chose on validation; ptec train refits them on train and validation together.
#
# Command:  ptec train --config {file}

"""


def in_full(config: SearchConfig) -> str:
    """Name everything that trials depend on; more trials, or other seeds to confirm with, leave it alone."""
    facts = config.model_dump(mode="json", exclude={"extract", "out", "trials", "confirmed", "seeds"})
    facts |= {"fingerprint": read_extract_record(config.extract)["fingerprint"], "seed": config.seeds[0]}
    backbones = {config.recipe.backbone, *config.choices("backbone")}
    facts["backbones"] = {name: resolve(name).content_hash() for name in sorted(backbones)}
    facts["space"] = list(facts["space"].items())  # the order decides what is drawn
    facts["cut"] = LONGEST_SEGMENT  # no setting, but trials of old cut texts at their end
    facts["packages"] = packages()
    return json.dumps(facts)


def confirmations(study: optuna.Study, config: SearchConfig) -> list[tuple[int, int]]:
    """List the trainings that are still to be done: number of the trial to confirm, and seed."""
    return [
        (trial.number, seed)
        for trial in _best_trials(study, config)
        for seed in config.seeds[1:]
        if seed not in _values_by_seed(study, trial, config)
    ]


def write_results(study: optuna.Study, config: SearchConfig, folder: Path) -> dict[str, Any]:
    """Write ``results.json``, ``best.yaml`` and pictures; return what ``search`` returns."""
    best = _best_trials(study, config)
    worth = [_worth(study, trial, config) for trial in best]
    winner, value = best[int(np.argmax(worth))], max(worth)
    if not value:
        raise TrainingError(f"no trial of the search was worth more than 0; {_reasons(best)}")
    rows = [_row(study, trial) for trial in study.trials if trial.value is not None]
    found = {"extract": read_extract_record(config.extract)["fingerprint"], "trials": rows}
    (folder / RESULTS).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    settings = with_settings(config.recipe, winner.params) | {"seed": config.seeds[0]}
    values = {"extract": config.extract, "out": str(folder / "artifact"), **settings}
    text = _HEADER.format(file=folder / BEST) + yaml.safe_dump(values, sort_keys=False)
    (folder / BEST).write_text(text, encoding="utf-8")
    _draw(study, folder)
    n_trials = sum("confirms" not in row for row in rows)
    return {"best": winner.params, "value": round(value, 6), "trials": n_trials, "config": str(folder / BEST)}


def _best_trials(study: optuna.Study, config: SearchConfig) -> list[FrozenTrial]:
    """The trials that are worth more seeds, best first; of equal settings the first one."""
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    own = [trial for trial in complete if "confirms" not in trial.user_attrs]
    ranked = sorted(own, key=lambda trial: (-(trial.value or 0.0), trial.number))
    different: dict[str, FrozenTrial] = {}
    for trial in ranked:
        different.setdefault(json.dumps(trial.params, sort_keys=True), trial)
    return list(different.values())[: config.confirmed]


def _reasons(trials: Sequence[FrozenTrial]) -> str:
    """Say why trials were counted as 0, as far as that is known, and what to do."""
    reasons = sorted({reason for trial in trials for reason in trial.user_attrs.get("faults", [])})
    return (
        "; ".join(reasons) or "what trainings measured on validation was 0 throughout: give more rows or other ranges"
    )


def _values_by_seed(study: optuna.Study, confirmed: FrozenTrial, config: SearchConfig) -> dict[int, float]:
    """Values of a trial's confirmations with the seeds that are wanted now."""
    return {
        trial.user_attrs["seed"]: trial.value or 0.0
        for trial in study.get_trials(states=(TrialState.COMPLETE,))
        if trial.user_attrs.get("confirms") == confirmed.number and trial.user_attrs["seed"] in config.seeds[1:]
    }


def _worth(study: optuna.Study, trial: FrozenTrial, config: SearchConfig) -> float:
    """What a trial's settings are worth: the mean of their confirmations, or of one and the trial's own value.

    That value is the best of many, so it flatters, and most where chance was on its side.
    """
    confirmed = list(_values_by_seed(study, trial, config).values())
    return float(np.mean(confirmed if len(confirmed) > 1 else [*confirmed, trial.value or 0.0]))


def _row(study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
    """Describe a trial that has a value; trials that were killed are not counted."""
    numbers = [other.number for other in study.trials if other.value is not None]
    attributes = dict(trial.user_attrs)
    if "confirms" in attributes:
        attributes["confirms"] = numbers.index(attributes["confirms"]) + 1
    return {
        "trial": numbers.index(trial.number) + 1,
        "pruned": trial.state == TrialState.PRUNED,
        "value": trial.value,
        **attributes,
        "settings": trial.params,
    }


def _draw(study: optuna.Study, folder: Path) -> None:
    """Draw the course of the study, each setting against the value, and how much each setting matters."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from optuna.visualization import matplotlib as plots

    pictures: dict[str, Callable[[optuna.Study], Any]] = {
        "history": plots.plot_optimization_history,
        "settings": plots.plot_slice,
    }
    if len(study.get_trials(states=(TrialState.COMPLETE,))) > 1:
        pictures["importance"] = plots.plot_param_importances
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls its own pictures experimental
        for name, picture in pictures.items():
            axes: Any = picture(study)
            figure = (axes if hasattr(axes, "figure") else axes[0]).figure  # one, or several side by side
            figure.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")
            plt.close(figure)
