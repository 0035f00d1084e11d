"""The code that one writes first: PEFT's own model, float32, padded batches of rows as they come."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.backbone import resolve

BATCH_ROWS = 32


class PeftScorer:
    """A model of this project as PEFT runs it; one prompt, mean pooling."""

    def __init__(self, folder: str) -> None:
        """Load an artifact's backbone, adapter and head.

        Raises:
            ValueError: for a model that PEFT alone cannot run.
        """
        from peft import PeftModel

        artifact = load_artifact(folder)
        named, pooling = artifact.manifest.backbone, artifact.manifest.pooling
        if named is None or pooling != "mean" or artifact.manifest.terms is not None:
            raise ValueError(f"a model with a backbone, mean pooling and no terms is wanted, pooling was: {pooling}")
        backbone, self.tokenizer = resolve(named.name).load()
        self.tokenizer.padding_side = "right"
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        self.max_tokens = artifact.manifest.max_tokens
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT still passes the cache under its old name
            self.model = PeftModel.from_pretrained(backbone, folder).eval()
        self.weight, self.bias = artifact.head_weight, artifact.head_bias

    @torch.inference_mode()
    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Score one batch, *Shape:* ``(n_texts, n_labels)``."""
        batch = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        ids, mask = batch["input_ids"], batch["attention_mask"]
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, -ids.shape[1] :]
        weights = mask.unsqueeze(-1).float()
        features = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        return (features @ self.weight.T + self.bias).numpy()


def make_predict_fn(folder: str) -> Callable[[], Callable[[np.ndarray], np.ndarray]]:
    """Make what ``predict_batch_udf`` wants: a function that loads in the worker and returns what predicts."""

    def load() -> Callable[[np.ndarray], np.ndarray]:
        scorer = PeftScorer(folder)
        return lambda texts: scorer.logits(texts.tolist())

    return load
