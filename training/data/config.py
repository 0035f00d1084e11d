"""Configuration of ``ptec extract``."""

from __future__ import annotations

from pydantic import Field, field_validator

from ptec_udf.config import SourceConfig, WarehouseConfig
from ptec_udf.errors import ConfigError
from ptec_udf.section import Section, refuse
from ptec_udf.text.template import parse_template


class LabelsConfig(Section):
    """Labels of the taxonomy."""

    column: str = Field(min_length=1, description="column with a company's labels; null: unlabelled, empty: no label")
    delimiter: str | None = Field(
        None, min_length=1, description="separator of labels in a string column; null: the column is an array"
    )
    min_positives: int = Field(
        15, ge=1, description="training companies that a label needs; labels with fewer are dropped and listed"
    )
    exclude: list[str] = Field(default_factory=list, description="names of labels that are not learned")


class SplitConfig(Section):
    """The split of companies into train, dev (for choices) and test (for the last evaluation)."""

    column: str | None = Field(
        None, min_length=1, description="column with train, dev or test; null: by a hash of the text"
    )
    dev: float = Field(0.1, ge=0, lt=1, description="share of texts in dev, when split by hash")
    test: float = Field(0.1, ge=0, lt=1, description="share of texts in test, when split by hash")


class ExtractConfig(Section):
    """Configuration of ``ptec extract``."""

    warehouse: WarehouseConfig = WarehouseConfig()
    source: SourceConfig
    template: str = Field(description="how columns become a text, for instance 'Name: {name}. {about}'")
    labels: LabelsConfig
    split: SplitConfig = SplitConfig()
    corrections: bool = Field(True, description="apply the table corrections, in which analysts correct labels")
    out: str = Field(min_length=1, description="folder of the extract; must be absent or empty")
    overwrite: bool = Field(False, description="replace an earlier extract in the folder")

    @field_validator("template")
    @classmethod
    def _template_is_valid(cls, template: str) -> str:
        try:
            parse_template(template)
        except ConfigError as error:
            refuse(error.errors)
        return template
