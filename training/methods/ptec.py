"""PTEC: soft prompt and head on a frozen backbone."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from training.methods.by_training import ByTraining


class Ptec(ByTraining):
    """Buchner et al., NAACL 2024 Industry Track (arXiv 2309.12075)."""

    method: Literal["ptec"] = "ptec"

    @model_validator(mode="after")
    def _has_no_lora(self) -> Ptec:
        if self.lora is not None:
            raise ValueError("lora must not be set for ptec, which trains a prompt or the head alone; use method: lora")
        return self
