"""PEFT's own model as one of MLflow's: the file that MLflow keeps and runs, so that it loads without a pickle.

MLflow is no requirement of this project: the extra ``benchmarks`` has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from benchmarks.peft_scorer import BATCH_ROWS, loaded_once


class PeftModel(PythonModel):
    """Texts in the first column to logits."""

    def load_context(self, context: Any) -> None:
        """Load the model, once in each process: MLflow does so on a cluster, but on one machine once per task."""
        self.scorer = loaded_once(context.artifacts["model"])

    def predict(self, context: Any, model_input: Any, params: Any = None) -> np.ndarray:
        """Score rows as they come, *Shape:* ``(n_rows, n_labels)``; MLflow hands over whole Arrow batches."""
        texts = model_input.iloc[:, 0].tolist()
        parts = [texts[at : at + BATCH_ROWS] for at in range(0, len(texts), BATCH_ROWS)]
        return np.concatenate([self.scorer.logits(part) for part in parts])


set_model(PeftModel())
