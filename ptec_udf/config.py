"""Read a YAML configuration with overrides; name all its faults at once.

Every command takes ``--config FILE`` and any number of ``--set dotted.key=value``. The sections
that scoring needs are declared here, those of other commands where they are carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ptec_udf.errors import ConfigError, did_you_mean

_BETWEEN_FAULTS = "\n"


class Section(BaseModel):
    """A part of a configuration: unknown keys are faults, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


def refuse(faults: Iterable[str]) -> None:
    """Raise what a validator raises, with several faults, each of which is told by itself; without any do nothing.

    Raises:
        ValueError: with the faults, each once.
    """
    if different := dict.fromkeys(faults):
        raise ValueError(_BETWEEN_FAULTS.join(different))


def messages_of(fault: Any) -> list[str]:
    """Return what one error of pydantic says, without its name; several messages where ``refuse`` raised it."""
    return str(fault["msg"]).removeprefix("Value error, ").split(_BETWEEN_FAULTS)


class WarehouseConfig(Section):
    """Where tables live."""

    folder: str | None = Field(
        "warehouse",
        description="folder of the embedded warehouse; null: the metastore of the site's own Spark session",
    )
    database: str = Field("ptec", pattern=r"^[A-Za-z0-9_]+$", description="database of our tables")
    artifacts: str | None = Field(
        None, description="folder that keeps registered artifacts; null: 'artifacts' in the folder above"
    )
    master: str = Field(
        "local[*,4]",
        description="Spark master of the embedded session; the 4 lets a task be tried again when a worker dies",
    )
    spark: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="more Spark settings of the embedded session, by their full names"
    )

    @model_validator(mode="after")
    def _artifacts_have_a_place(self) -> WarehouseConfig:
        if self.folder is None and self.artifacts is None:
            raise ValueError("warehouse.artifacts must be set where warehouse.folder is null")
        return self

    @property
    def artifact_folder(self) -> Path:
        """Where ``ptec register`` copies artifacts to."""
        return Path(self.artifacts) if self.artifacts else Path(self.folder or "") / "artifacts"


class SourceConfig(Section):
    """A table of companies: a Delta table or view by name, or a Delta or Parquet folder by path."""

    table: str | None = Field(None, min_length=1, description="name, for instance 'crm.companies'")
    path: str | None = Field(None, min_length=1, description="folder of a Delta or Parquet table")
    version: int | None = Field(None, ge=0, description="Delta version to read; null: the newest")
    key: str = Field("key", min_length=1, description="column that identifies a company")

    @model_validator(mode="after")
    def _one_place(self) -> SourceConfig:
        if (self.table is None) == (self.path is None):
            raise ValueError("exactly one of table and path must be set")
        return self


class ScoreSourceConfig(SourceConfig):
    """The source of a night."""

    columns: dict[str, str | None] = Field(
        default_factory=dict,
        description="template field: source column, where the names differ; null: the source has no such column",
    )
    accept_new: bool = Field(False, description="go on although earlier nights of this model read another source")


class ModelChoice(Section):
    """Which registered model scores."""

    alias: str = Field("champion", pattern=r"^[A-Za-z0-9_]+$", description="pointer in the aliases table")
    id: str | None = Field(None, min_length=6, description="a model_id or its beginning; wins over alias")


class EngineConfig(Section):
    """How texts become logits on an executor."""

    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="arithmetic of the backbone; head and calibration stay float32. auto: bfloat16 where the driver's "
        "processor has it or tasks have a GPU",
    )
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="most text positions of one forward pass, padding included; a longer text goes alone. "
        "null: 1024, on a GPU what its free memory holds",
    )
    window_rows: int = Field(4096, ge=1, description="rows read ahead, sorted by length and batched together")
    window_bytes: int = Field(
        32_000_000, ge=1, description="most bytes of text that are read ahead, so that giant texts cannot pile up"
    )
    threads: int | None = Field(None, ge=1, description="torch threads of a worker; null: spark.task.cpus")


class VerifyConfig(Section):
    """The sample that ``ptec verify`` scores."""

    rows: int = Field(200, ge=1, description="distinct texts drawn from the source; its longest ones come on top")
    seed: int = Field(0, description="another one draws other texts")


class EstimateConfig(Section):
    """How long ``ptec estimate`` measures."""

    seconds: float = Field(30.0, gt=0, description="about so long texts are scored, to measure how fast that is")


class ScoreConfig(Section):
    """Configuration of ``ptec score``, and of ``ptec verify`` and ``ptec estimate`` before it."""

    warehouse: WarehouseConfig = WarehouseConfig()
    source: ScoreSourceConfig
    model: ModelChoice = ModelChoice()
    shadows: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]] = Field(
        default_factory=list, description="aliases or model_ids that score in the same night and show in no view"
    )
    engine: EngineConfig = EngineConfig()
    slice_texts: int = Field(
        8192, ge=1, description="distinct texts scored per staging commit; a killed night resumes after the last one"
    )
    retry_errors: bool = Field(False, description="score rows with status error again although nothing changed")
    verify: VerifyConfig = VerifyConfig()
    estimate: EstimateConfig = EstimateConfig()

    @model_validator(mode="after")
    def _shadows_are_others(self) -> ScoreConfig:
        own = self.model.id or self.model.alias
        faults = [f"shadows must name other models than the night's own, named {own!r}"] if own in self.shadows else []
        if twice := sorted({name for name in self.shadows if self.shadows.count(name) > 1}):
            faults.append(f"shadows must name each model once, named more often: {', '.join(map(repr, twice))}")
        refuse(faults)
        return self


ConfigT = TypeVar("ConfigT", bound=BaseModel)


def load_config(kind: type[ConfigT], file: str | Path | None, overrides: Sequence[str] = ()) -> ConfigT:
    """Read ``file``, apply ``overrides`` in order and validate the result.

    Args:
        kind: the configuration class.
        file: a YAML file; None starts from the defaults.
        overrides: texts of the form ``dotted.key=value``; the value is read as YAML.

    Raises:
        ConfigError: with every fault that was found, each with rule, value and what to do.
    """
    values = _read_yaml(file) if file is not None else {}
    faults = [fault for text in overrides if (fault := _apply(values, text))]
    try:
        config = kind.model_validate(values)
    except ValidationError as error:
        faults += [sentence for fault in error.errors() for sentence in _sentences(kind, fault)]
    if faults:
        raise ConfigError(faults)
    return config


def _read_yaml(file: str | Path) -> dict[str, Any]:
    """Read a mapping from a YAML file."""
    try:
        values = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"configuration file {str(file)!r} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {str(file)!r} is not YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"configuration file {str(file)!r} must hold keys and values, found a {type(values).__name__}"
        )
    return values


def _apply(values: dict[str, Any], override: str) -> str | None:
    """Set one dotted key in place; return a fault or None."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        return f"--set takes dotted.key=value, was: {override!r}"
    *parents, last = dotted.strip().split(".")
    place = values
    for name in parents:
        if place.get(name) is None:
            place[name] = {}
        place = place[name]
        if not isinstance(place, dict):
            return f"--set {override}: {name!r} is a value, not a section"
    try:
        place[last] = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        return f"--set {override}: the value is not YAML; put quotes around a text"
    return None


def _sentences(kind: type[BaseModel], fault: Any) -> list[str]:
    """Say one error of pydantic as rule, value and what to do; one that ``refuse`` raised as several."""
    return [_sentence(kind, fault, message) for message in messages_of(fault)]


def _sentence(kind: type[BaseModel], fault: Any, message: str) -> str:
    keys, _ = _place(kind, fault["loc"])
    where = ".".join(keys)
    if fault["type"] == "extra_forbidden":
        _, sections = _place(kind, fault["loc"][:-1])
        allowed = {name for section in sections for name in section.model_fields}
        hint = did_you_mean(str(fault["loc"][-1]), allowed, f"allowed here: {', '.join(sorted(allowed))}")
        return f"{where}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{where}: must be set"
    if fault["type"] == "union_tag_not_found":
        return f"{where}: {fault['ctx']['discriminator']} must be set"
    message = message[0].lower() + message[1:]
    if fault["type"] == "list_type":
        message = f"must be a list, such as [{fault['input']}]"
    if isinstance(fault["input"], dict | BaseModel):
        return f"{where}: {message}" if where else message
    return f"{where}: {message}, was: {fault['input']!r}"


def _place(kind: type[BaseModel], location: tuple[Any, ...]) -> tuple[list[str], list[type[BaseModel]]]:
    """Say where a fault is in the keys that a user writes, and which sections may stand there.

    Where a section can be one of several, pydantic's location also names which one it took.
    """
    keys: list[str] = []
    sections, in_mapping = [kind], False
    for part in location:
        if in_mapping:
            keys, in_mapping = [*keys, str(part)], False
        elif len(sections) > 1:
            sections = [section for section in sections if _tag(section) == part]
        else:
            keys.append(str(part))
            field = sections[0].model_fields.get(str(part)) if sections else None
            annotation = field.annotation if field else None
            sections, in_mapping = _sections_in(annotation), get_origin(annotation) is dict
    return keys, sections


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    """The configuration sections that an annotation speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections_in(part)]


def _tag(section: type[BaseModel]) -> Any:
    """What tells a section from the others that may stand in its place."""
    literals = (field for field in section.model_fields.values() if get_origin(field.annotation) is Literal)
    return next((field.default for field in literals if len(get_args(field.annotation)) == 1), None)
