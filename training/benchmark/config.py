"""Configuration of ``ptec benchmark``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from ptec_udf.section import Section
from training.config import Seed
from training.methods.artifact import Trained
from training.methods.compression import Compression
from training.methods.head import Head
from training.methods.lora import Lora
from training.methods.n_shot import NShot
from training.methods.neighbours import Neighbours, Radius
from training.methods.prompt_tuning import PromptTuning
from training.methods.ptec import Ptec
from training.methods.tfidf import Tfidf

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]  # it names a folder
AnyMethod = Annotated[
    Ptec | Lora | Trained | Head | Neighbours | Radius | Compression | Tfidf | PromptTuning | NShot,
    Field(discriminator="method"),
]


class BenchmarkConfig(Section):
    """Which methods learn from which rows, and which rows judge them."""

    extract: str = Field(min_length=1, description="folder that ptec extract wrote")
    out: str = Field(min_length=1, description="folder of results; runs that are there already are kept")
    evaluated: Literal["dev", "test"] = Field(
        "dev", description="rows that judge; no method is given them before it has learned"
    )
    validation_share: float = Field(
        0.15, gt=0, lt=1, description="share of train, by a hash of the text, that chooses settings and thresholds"
    )
    seeds: list[Seed] = Field([42, 43, 44], min_length=1, description="one run each of methods that draw at random")
    reference: str = Field(description="name of the method that the others are compared with")
    resamples: int = Field(1000, ge=100, description="bootstrap samples of the evaluated rows")
    methods: dict[Name, AnyMethod] = Field(min_length=1, description="a name for each, its method and settings")

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("seeds must differ, or a run would count twice")
        return seeds

    @model_validator(mode="after")
    def _reference_is_there(self) -> BenchmarkConfig:
        if self.reference not in self.methods:
            raise ValueError(f"reference must be one of {', '.join(self.methods)}, was: {self.reference!r}")
        return self
