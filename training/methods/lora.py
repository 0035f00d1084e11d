"""PTEC's rival: low-rank changes of the backbone, and a head."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from training.config import LoraSettings
from training.methods.by_training import ByTraining


class Lora(ByTraining):
    """Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv 2106.09685)."""

    method: Literal["lora"] = "lora"

    lora: LoraSettings = LoraSettings()

    @model_validator(mode="after")
    def _has_no_prompt(self) -> Lora:
        if "prompt" in self.model_fields_set:
            raise ValueError("prompt must not be set for lora, which trains none; use method: ptec")
        return self
