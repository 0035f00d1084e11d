"""Log a finished training to MLflow, where ``MLFLOW_TRACKING_URI`` is set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ptec_training.config import TrainConfig
from ptec_udf.log import logger
from ptec_udf.model.mlflow_model import MODEL_TAG, import_mlflow, log_model


def log_training(config: TrainConfig, folder: Path, model_id: str, metrics: Mapping[str, Any]) -> str | None:
    """Log settings, metrics of each epoch and split, plots and the artifact; return the run's id.

    None: no tracking server is set. Experiment and credentials are set by MLflow's own variables.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    mlflow = import_mlflow()
    with mlflow.start_run(run_name=folder.name, tags={MODEL_TAG: model_id}) as run:
        mlflow.log_params(dict(_flat(config.model_dump(mode="json"))))
        for training, state in metrics["trainings"].items():
            for epoch in state["history"]:
                values = {f"{training}/{name}": value for name, value in epoch.items() if name != "epoch"}
                mlflow.log_metrics(values, step=epoch["epoch"])
        for split, report in metrics["splits"].items():
            overall = {f"{split}/{name}": value for name, value in report["overall"].items() if value is not None}
            mlflow.log_metrics(overall)
            mlflow.log_figure(_plot(split, report), f"plots/{split}.png")
        log_model(folder)
        logger.info(f"the training is run {run.info.run_id} in MLflow")
        return str(run.info.run_id)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plot(split: str, report: Mapping[str, Any]) -> Any:
    """Draw precision-recall and reliability over all labels together."""
    from matplotlib.figure import Figure  # without the state of pyplot

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    curve = report["curves"]["precision_recall"]
    left.plot([recall for _, _, recall in curve], [precision for _, precision, _ in curve])
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=f"{split}: precision and recall")
    bins = report["curves"]["reliability"]
    right.plot([0, 1], [0, 1], color="grey", linewidth=1)
    right.plot([probability for probability, _, _ in bins], [share for _, share, _ in bins], marker="o")
    right.set(xlabel="mean probability", ylabel="share of positives", title=f"{split}: calibration")
    return figure
