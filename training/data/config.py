"""Configuration of ``ptec extract``."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from ptec_udf.config import SourceConfig, WarehouseConfig
from ptec_udf.errors import ConfigError
from ptec_udf.section import Section, refuse
from ptec_udf.text.template import parse_template


class LabelColumn(Section):
    """A column that holds labels, and how many companies a label needs."""

    column: str = Field(min_length=1, description="column that holds a company's labels")
    delimiter: str | None = Field(
        None, min_length=1, description="what separates labels in a string column; null: the column is an array"
    )
    min_positives: int = Field(
        15, ge=1, description="fewest training companies of a label; labels with fewer are dropped and listed"
    )


class LabelsConfig(LabelColumn):
    """Where a company's labels stand and which of them are learned."""

    exclude: list[str] = Field(default_factory=list, description="labels that are not learned, by name")
    auxiliary: LabelColumn | None = Field(
        None, description="further labels that training may learn beside, which the model does not give; null: none"
    )


class SplitConfig(Section):
    """Which companies train, choose (dev) and judge (test) a model."""

    column: str | None = Field(
        None, min_length=1, description="column with train, dev or test; null: split by a hash of the text"
    )
    dev: float = Field(0.1, ge=0, lt=1, description="share of dev when split by hash")
    test: float = Field(0.1, ge=0, lt=1, description="share of test when split by hash")

    @model_validator(mode="after")
    def _train_has_a_share(self) -> SplitConfig:
        if self.dev + self.test >= 1:
            raise ValueError(f"dev + test must be below 1 to leave a share for train, was: {self.dev + self.test:g}")
        return self


class ExtractConfig(Section):
    """Configuration of ``ptec extract``."""

    warehouse: WarehouseConfig = WarehouseConfig()
    source: SourceConfig
    template: str = Field(description="how a company's columns become its text, for instance 'Name: {name}. {about}'")
    labels: LabelsConfig
    split: SplitConfig = SplitConfig()
    corrections: bool = Field(
        True, description="apply the warehouse's table corrections: what analysts say about labels of companies"
    )
    out: str = Field(min_length=1, description="folder of the extract; must be absent or empty")
    overwrite: bool = Field(False, description="replace an earlier extract in the folder")

    @field_validator("template")
    @classmethod
    def _template_is_readable(cls, template: str) -> str:
        try:
            parse_template(template)
        except ConfigError as error:
            refuse(error.errors)
        return template
