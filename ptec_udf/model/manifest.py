"""The manifest of an artifact: what a model is and how its parts are used.

How its hashes are made and what files lie beside it, artifact.py says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ptec_udf.errors import ConfigError
from ptec_udf.text.template import is_blank, parse_template

Cut = Literal["end", "longest_segment"]
"""What is cut of a text that is too long: its end, or the end of its longest segments, see ``engine/cut.py``."""

Point = tuple[float, float]
"""A point of an isotonic curve, from log-odds to log-odds."""

LONGEST_SEGMENT: Final = "longest_segment"

MIN_TOKENS = 8
"""Of a text that a model reads, special tokens included."""

MIN_NGRAM_CHARACTERS = 2
MAX_NGRAM_CHARACTERS = 32
"""Of a term that TF-IDF makes of characters."""

MAX_NGRAM_WORDS = 16
"""Of a term that TF-IDF makes of words; a text is read once for each number of them."""


class _Part(BaseModel):
    """A part of the manifest: unknown keys are refused, and what is no number, over which a threshold lies for SQL."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class BackboneRef(_Part):
    """The frozen language model: its name and the hash of its content."""

    name: str
    content_hash: str


class PromptSpec(_Part):
    """The soft prompt's form.

    ``attention`` is ``full`` where the prompt sees the text (an input prompt in a bidirectional
    encoder) and ``prefix`` where it does not, so that its keys and values are computed once. A deep prompt is in all
    layers, or in ``upper_layers`` of them.
    """

    kind: Literal["input", "deep"]
    n_tokens: int = Field(ge=1)
    attention: Literal["full", "prefix"]
    upper_layers: int | None = Field(None, ge=1)


class LoraSpec(_Part):
    """Low-rank changes of the backbone's weights, in place of a prompt; a change counts alpha / rank times."""

    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)


class TfidfSpec(_Part):
    """TF-IDF of words and characters, in place of a language model or beside it: how long its terms may be."""

    words: int = Field(ge=1, le=MAX_NGRAM_WORDS)
    characters: int = Field(ge=MIN_NGRAM_CHARACTERS, le=MAX_NGRAM_CHARACTERS)


class Label(_Part):
    """One label: probability = sigmoid(curve(scale * logit + offset)), assigned at or over threshold."""

    name: str
    threshold: float = Field(gt=0, lt=1)
    scale: float = Field(gt=0)
    offset: float
    training_positives: int


class ExtractOrigin(_Part):
    """The training extract: its fingerprint and the table and version it was made from."""

    fingerprint: str
    source: str
    source_id: str
    version: int


class Manifest(_Part):
    """What an artifact is and how its parts are used."""

    format_version: Literal[1] = 1
    model_id: str = ""
    checksum: str = ""
    created: str
    backbone: BackboneRef | None = None
    template: str
    max_tokens: int | None = Field(None, ge=MIN_TOKENS)
    # The end is not written: artifacts that were made before there was a choice keep their checksums and ids.
    cut: Cut = Field("end", exclude_if=lambda cut: cut == "end")
    pooling: Literal["mean", "last", "label_attention"] | None = None
    pooled_positions: Literal["text"] = "text"
    prompt: PromptSpec | None = None
    lora: LoraSpec | None = None
    members: int | None = Field(None, ge=2)  # prompts and heads whose logits are averaged; None: there is one
    tfidf: TfidfSpec | None = None
    feature_scaling: Literal["fused into head"] = "fused into head"
    calibrator: str
    threshold_logit: float
    curve: list[Point] | None = Field(None, min_length=2)  # isotonic, see calibration.py; None: none
    labels: list[Label]
    extract: ExtractOrigin
    packages: dict[str, str]
    files: dict[str, str]

    @property
    def has_adapter(self) -> bool:
        """Whether something was trained on the backbone: a prompt or LoRA."""
        return self.prompt is not None or self.lora is not None

    @property
    def has_label_attention(self) -> bool:
        """Whether each label pools a text in its own way."""
        return self.pooling == "label_attention"

    @field_validator("created")
    @classmethod
    def _created_is_a_time(cls, created: str) -> str:
        datetime.fromisoformat(created)
        return created

    @field_validator("template")
    @classmethod
    def _template_is_one(cls, template: str) -> str:
        try:
            parse_template(template)
        except ConfigError as error:
            raise ValueError("; ".join(error.errors)) from error
        return template

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: list[Label]) -> list[Label]:
        names = Counter(label.name for label in labels)
        if doubled := [name for name, times in names.items() if times > 1]:
            raise ValueError(f"each label must be there once, several times were: {', '.join(map(repr, doubled))}")
        if blank := [name for name in names if is_blank(name)]:
            raise ValueError(f"each label must have a name that can be seen, blank were: {', '.join(map(repr, blank))}")
        return labels

    @field_validator("curve")
    @classmethod
    def _curve_rises(cls, curve: list[Point] | None) -> list[Point] | None:
        if curve is not None and not is_rising(curve):
            raise ValueError("each point of the curve must be right of the one before, and above it")
        return curve

    @model_validator(mode="after")
    def _parts_fit(self) -> Manifest:
        if self.prompt is not None and self.lora is not None:
            raise ValueError("prompt and lora must not both be there")
        if self.members is not None and self.prompt is None:
            raise ValueError("members must not be there without a prompt, by which they differ")
        if self.backbone is None and self.tfidf is None:
            raise ValueError("backbone or tfidf must be there, or both")
        if self.backbone is None and self.has_adapter:
            raise ValueError("prompt and lora must not be there without a backbone")
        if self.backbone is None and self.cut != "end":
            raise ValueError("cut must not be there without a backbone, whose tokens are cut")
        of_backbone = {"max_tokens": self.max_tokens, "pooling": self.pooling}
        if wrong := [name for name, value in of_backbone.items() if (value is None) != (self.backbone is None)]:
            raise ValueError(f"{' and '.join(wrong)} must be there with a backbone, and only then")
        return self


def is_rising(points: Sequence[Point]) -> bool:
    """Tell whether each point is right of the one before, and above it."""
    return all(one[0] < other[0] and one[1] < other[1] for one, other in pairwise(points))
