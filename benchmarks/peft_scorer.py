"""The code that one writes first: PEFT's own model, float32, padded batches of rows as they come.

Texts that are too long lose their end, as a tokeniser cuts them. Of a model that cuts their longest segment such texts
have other scores here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch

from ptec_udf.model.artifact import load_artifact
from ptec_udf.model.backbone import resolve

BATCH_ROWS = 32

_ALONE = ("members", "tfidf")


class PeftScorer:
    """A model of this project as PEFT runs it; one prompt, mean pooling."""

    def __init__(self, folder: str, dtype: str = "float32") -> None:
        """Load an artifact's backbone, adapter and head; the backbone computes in ``dtype``.

        Raises:
            ValueError: for a model that PEFT alone cannot run.
        """
        from peft import PeftModel

        artifact = load_artifact(folder)
        manifest = artifact.manifest
        named, wrong = manifest.backbone, [name for name in _ALONE if getattr(manifest, name) is not None]
        if named is None or manifest.pooling != "mean" or not manifest.has_adapter or wrong:
            faults = [f"pooling {manifest.pooling}", *wrong]
            raise ValueError(
                f"PEFT alone needs a model with a backbone, a prompt or LoRA and mean pooling, without "
                f"{', '.join(_ALONE)}; this one has: {', '.join(faults)}"
            )
        backbone, self.tokenizer = resolve(named.name).load()
        self.tokenizer.padding_side = "right"
        known = self.tokenizer.pad_token, self.tokenizer.eos_token, self.tokenizer.unk_token
        self.tokenizer.pad_token = next(token for token in known if token)  # any: the mask hides it
        self.max_tokens = manifest.max_tokens
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model = PeftModel.from_pretrained(backbone, folder).eval()
        self.dtype = getattr(torch, dtype)
        self.weight, self.bias = (torch.from_numpy(artifact.head[name]) for name in ("weight", "bias"))

    @torch.inference_mode()
    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Score one batch, *Shape:* ``(n_texts, n_labels)``."""
        batch = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        ids, mask = batch["input_ids"], batch["attention_mask"]
        # An input prompt's positions come out before the text's; of keys and values in each layer none do.
        with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            warnings.simplefilter("ignore")  # PEFT still passes the cache under its old name
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, -ids.shape[1] :]
        hidden = hidden.float()
        weights = mask.unsqueeze(-1).float()
        features = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        return (features @ self.weight.T + self.bias).numpy()


@lru_cache(maxsize=1)
def loaded_once(folder: str) -> PeftScorer:
    """Return this process's scorer of a folder."""
    return PeftScorer(folder)


def make_predict_fn(folder: str, dtype: str = "float32") -> Callable[[], Callable[[np.ndarray], np.ndarray]]:
    """Return a function that loads in the worker and returns the prediction function, for ``predict_batch_udf``."""

    def load() -> Callable[[np.ndarray], np.ndarray]:
        scorer = PeftScorer(folder, dtype)
        return lambda texts: scorer.logits(texts.tolist())

    return load
