"""The sections of the site file that scoring needs; each other command declares its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from ptec_udf.monitor.judge import DriftConfig
from ptec_udf.section import SECRET, Section, address

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
Fraction = Annotated[float, Field(ge=0, le=1)]


class WarehouseConfig(Section):
    """Where tables live."""

    folder: str | None = Field("warehouse", description="folder of the embedded warehouse; null: the site's catalog")
    database: str = Field(
        "ptec",
        pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?$",
        description="schema of our tables; catalog.schema where folder is null",
    )
    artifacts: str | None = Field(
        None, validate_default=True, description="folder of registered artifacts; null: 'artifacts' in folder"
    )
    master: str = Field("local[*,4]", description="Spark master of the embedded session; 4: tries of a task")
    remote: Annotated[SecretStr, address("sc")] | None = Field(
        None, description="address of a Spark Connect server; folder must be null then"
    )
    spark: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="more Spark settings of the embedded session", json_schema_extra=SECRET
    )

    # Of fields: pydantic skips a validator of the whole section where a field has an error.
    @field_validator("database", "artifacts", "remote")
    @classmethod
    def _fits_folder(cls, value: Any, info: ValidationInfo) -> Any:
        name, folder = info.field_name, info.data.get("folder", "")
        is_embedded = folder is not None
        if name == "database" and is_embedded and not re.fullmatch(r"\w+", value):
            raise ValueError("must be letters, digits and underscores in an embedded warehouse")
        if name == "artifacts" and not is_embedded and value is None:
            raise ValueError("must be set where warehouse.folder is null")
        if name == "remote" and is_embedded and value is not None:
            raise ValueError(f"must be null unless warehouse.folder is null, and that is {folder!r}")
        return value

    @property
    def artifact_folder(self) -> Path:
        """Where ``ptec register`` copies artifacts to."""
        return Path(self.artifacts) if self.artifacts else Path(self.folder or "") / "artifacts"


class SourceConfig(Section):
    """A table of companies: a Delta table or view by name, or a Delta or Parquet folder by path."""

    table: str | None = Field(None, min_length=1, description="name, for instance 'crm.companies'")
    path: str | None = Field(
        None, min_length=1, validate_default=True, description="folder of a Delta or Parquet table, in place of table"
    )
    version: int | None = Field(None, ge=0, description="Delta version to read; null: the newest")
    key: str = Field("key", min_length=1, description="column that identifies a company")

    @field_validator("path")
    @classmethod
    def _has_table_or_path(cls, path: str | None, info: ValidationInfo) -> str | None:
        if "table" in info.data and (info.data["table"] is None) == (path is None):
            raise ValueError("exactly one of table and path must be set")
        return path


class ScoreSourceConfig(SourceConfig):
    """The source of a run."""

    columns: dict[str, str | None] = Field(
        default_factory=dict, description="template field: source column, where names differ; null: no such column"
    )
    accept_new: bool = Field(False, description="accept another source than earlier runs of this model read")


class ModelChoice(Section):
    """Which registered model scores."""

    alias: Name = Field("champion", description="alias of the model")
    id: str | None = Field(None, min_length=6, description="a model_id or its beginning; overrides alias")
    mlflow: str | None = Field(
        None,
        pattern=r"^[^/:'\"]+$",
        description="name of the same models in MLflow's registry, whose aliases must be those of the warehouse; "
        "MLFLOW_TRACKING_URI says where. null: not compared",
    )


class EngineConfig(Section):
    """How texts become logits on an executor."""

    kind: Literal["torch", "openvino"] = Field(
        "torch",
        description="openvino: executors need neither torch nor the backbone, but must read warehouse.artifacts; "
        "CPUs only",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="dtype of the backbone; auto: bfloat16 if the driver's CPU, or the GPU of a task, has it"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: the GPU that Spark assigns to a task, else the CPU; cuda: also in local mode"
    )
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="maximum text positions of one forward pass, padding included; a longer text is a pass of its own. "
        "null: 1024, on a GPU 16384",
    )
    window_rows: int = Field(4096, ge=1, description="rows that are read ahead and sorted by length")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads of a worker; null: spark.task.cpus")

    @field_validator("device")
    @classmethod
    def _openvino_needs_the_cpu(cls, device: str, info: ValidationInfo) -> str:
        if device == "cuda" and info.data.get("kind") == "openvino":
            raise ValueError("must be auto or cpu with kind openvino")
        return device


class VerifyConfig(Section):
    """The sample that ``ptec verify`` scores."""

    rows: int = Field(200, ge=1, le=100_000, description="distinct texts drawn from the source, plus its longest ones")
    seed: int = Field(0, ge=-(2**63), le=2**63 - 1, description="seed of the sample")


class EstimateConfig(Section):
    """How long ``ptec estimate`` measures."""

    seconds: float = Field(30.0, gt=0, description="seconds of scoring to measure")


class NoticeConfig(Section):
    """Messages of ``ptec score`` for schedulers and people."""

    log: Literal["text", "json"] = Field("text", description="lines on standard error: text, or one JSON object each")
    webhook: Annotated[SecretStr, address("https", "http")] | None = Field(
        None, description="address that receives a JSON message by POST"
    )
    webhook_on: list[Literal["failed", "retrain"]] = Field(
        ["failed", "retrain"], description="events that send a message"
    )


class RunConfig(Section):
    """How a scoring run works."""

    commit_minutes: float = Field(10.0, gt=0, description="minutes of scoring that a killed run may lose")
    task_seconds: float = Field(10.0, gt=0, description="seconds of scoring in a Spark task; longer above 1,500 tasks")
    tokens_per_second: float = Field(2000.0, gt=0, description="expected speed of one task slot; a GPU has more")
    retry_errors: bool = Field(False, description="score unchanged companies with errors again")
    max_error_fraction: Fraction = Field(
        0.1, description="limit of errors among written companies, from 100 on; with more nothing is merged"
    )
    max_removed_fraction: Fraction = Field(
        0.5, description="limit of active companies missing from the source, from 100 on; with more nothing is scored"
    )
    keep_staged_days: int = Field(7, ge=1, description="days that scores of ended runs stay in staging for reuse")


class ScoreConfig(Section):
    """Configuration of ``ptec score``, and of ``ptec verify`` and ``ptec estimate`` before it."""

    warehouse: WarehouseConfig = WarehouseConfig()
    source: ScoreSourceConfig
    model: ModelChoice = ModelChoice()
    engine: EngineConfig = EngineConfig()
    run: RunConfig = RunConfig()
    drift: DriftConfig = DriftConfig()
    notice: NoticeConfig = NoticeConfig()
    verify: VerifyConfig = VerifyConfig()
    estimate: EstimateConfig = EstimateConfig()

    def stored(self) -> str:
        """Return it as JSON for the table runs, without settings that may contain a secret."""
        return self.model_dump_json(exclude={"warehouse": {"spark", "remote"}, "notice": {"webhook"}})
