"""The manifest of an artifact: what a model is and how its parts are used."""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from ptec_udf.errors import ConfigError
from ptec_udf.section import refuse
from ptec_udf.text.template import is_blank, parse_template

Cut = Literal["end", "longest_segment"]  # of a long text: its end, or that of its longest segments (text/cut.py)

LONGEST_SEGMENT: Final = "longest_segment"

Pooling = Literal["mean", "last", "label_attention"]
PromptKind = Literal["input", "deep"]


MIN_TOKENS = 8  # of max_tokens, special tokens included


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class BackboneRef(_Part):
    """The frozen language model: its name and the hash of its content."""

    name: str
    content_hash: str


class PromptSpec(_Part):
    """The soft prompt; a deep one is in all layers, or in the ``upper_layers`` last ones.

    ``attention`` is ``full`` if it attends to the text (an input prompt in a bidirectional encoder), else ``prefix``.
    """

    kind: PromptKind
    n_tokens: int = Field(ge=1)
    attention: Literal["full", "prefix"]
    upper_layers: int | None = Field(None, ge=1)


class LoraSpec(_Part):
    """Low-rank updates of the backbone's weights, scaled by alpha / rank."""

    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)


class TfidfSpec(_Part):
    """Maximum lengths of TF-IDF's n-grams of words and of characters."""

    words: int = Field(ge=1, le=16)
    characters: int = Field(ge=2, le=32)


class Label(_Part):
    """A label: probability = sigmoid(scale * logit + offset), assigned at ``threshold`` or above."""

    name: str
    threshold: float = Field(gt=0, lt=1)
    scale: float = Field(gt=0)
    offset: float
    training_positives: int


class ExtractOrigin(_Part):
    """The training extract: its fingerprint, and the table and version it was made from."""

    fingerprint: str
    source: str
    source_id: str
    version: int


class Manifest(_Part):
    """What an artifact is and how its parts are used."""

    format_version: Literal[1] = 1
    created: AwareDatetime
    backbone: BackboneRef | None = None
    template: str
    max_tokens: int | None = Field(None, ge=MIN_TOKENS)
    cut: Cut = "end"
    pooling: Pooling | None = None
    prompt: PromptSpec | None = None
    lora: LoraSpec | None = None
    members: int | None = Field(None, ge=2)  # prompts and heads whose logits are averaged
    tfidf: TfidfSpec | None = None  # replaces the backbone, or adds its logits to the network's
    threshold_logit: float
    labels: list[Label]
    extract: ExtractOrigin
    packages: dict[str, str]

    @property
    def has_adapter(self) -> bool:
        """Whether a prompt or LoRA was trained on the backbone."""
        return self.prompt is not None or self.lora is not None

    @field_validator("template")
    @classmethod
    def _check_template(cls, template: str) -> str:
        try:
            parse_template(template)
        except ConfigError as error:
            raise ValueError("; ".join(error.errors)) from error
        return template

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: list[Label]) -> list[Label]:
        names = Counter(label.name for label in labels)
        if wrong := [name for name, count in names.items() if count > 1 or is_blank(name)]:
            raise ValueError(f"labels must be unique and visible, were: {', '.join(map(repr, wrong))}")
        return labels

    @model_validator(mode="after")
    def _check_parts(self) -> Manifest:
        has_backbone = self.backbone is not None
        are_set = {self.max_tokens is not None, self.pooling is not None}
        rules = {
            "backbone or tfidf must be set": has_backbone or self.tfidf is not None,
            "prompt and lora must not both be set": self.prompt is None or self.lora is None,
            "members must be null without a prompt": self.members is None or self.prompt is not None,
            "prompt, lora and cut need a backbone": has_backbone or not (self.has_adapter or self.cut != "end"),
            "max_tokens and pooling must be set if and only if backbone is": are_set == {has_backbone},
        }
        refuse(rule for rule, is_kept in rules.items() if not is_kept)
        return self
