"""PTEC's rival: low-rank changes of the backbone, and a head."""

from __future__ import annotations

from typing import Literal

from training.args import LoraSettings
from training.methods.by_training import ByTraining


class Lora(ByTraining):
    """Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv 2106.09685)."""

    method: Literal["lora"] = "lora"

    lora: LoraSettings = LoraSettings()
