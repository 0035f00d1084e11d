"""An independent scorer: one text at a time by transformers alone, from the files of a tiny artifact.

It shares no code with the engine: no batches, no padding, and the prompt's keys and values come from PEFT's own file.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer
from transformers.cache_utils import DynamicCache


class PlainScorer:
    """A tiny model with a deep prompt on a BERT backbone, mean pooling, texts up to its maximum length."""

    def __init__(self, artifact: Path) -> None:
        self.manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
        backbone = self.manifest["backbone"]["name"].removeprefix("path:")
        self.tokenizer = AutoTokenizer.from_pretrained(backbone)
        self.backbone = AutoModel.from_pretrained(backbone, dtype=torch.float32).eval()
        self.prompt = load_file(artifact / "adapter_model.safetensors")["prompt_embeddings"]
        head = load_file(artifact / "head.safetensors")
        self.weight, self.bias = head["weight"], head["bias"]

    @torch.inference_mode()
    def logits(self, text: str) -> list[float]:
        """Score one text alone."""
        ids = self.tokenizer(text, return_tensors="pt")["input_ids"]
        assert ids.shape[1] <= self.manifest["max_tokens"], "this scorer cuts no text"
        config, n_prompt = self.backbone.config, len(self.prompt)
        n_heads = config.num_attention_heads
        shape = (n_prompt, config.num_hidden_layers * 2, n_heads, config.hidden_size // n_heads)
        keys_values = self.prompt.view(shape).permute(1, 2, 0, 3).unsqueeze(1).split(2)
        cache = DynamicCache(config=config)
        for layer, (keys, values) in enumerate(keys_values):
            cache.update(keys, values, layer)
        mask = torch.ones((1, n_prompt + ids.shape[1]), dtype=torch.long)
        outputs = self.backbone(input_ids=ids, attention_mask=mask, cache=cache, use_cache=True)
        features = outputs.last_hidden_state[0, -ids.shape[1] :].mean(dim=0)
        return (self.weight @ features + self.bias).tolist()

    def probabilities(self, text: str) -> dict[str, float]:
        """Calibrated probability of each label."""
        found = {}
        for label, logit in zip(self.manifest["labels"], self.logits(text), strict=True):
            calibrated = torch.tensor(label["scale"] * logit + label["offset"], dtype=torch.float32)
            found[label["name"]] = float(calibrated.sigmoid())
        return found
