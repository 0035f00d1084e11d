"""The sections of a configuration that scoring needs; those of other commands stand where they are carried out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from ptec_udf.monitor.drift_config import DriftConfig
from ptec_udf.section import SECRET, Section, check_address, refuse


class WarehouseConfig(Section):
    """Where tables live."""

    folder: str | None = Field(
        "warehouse",
        description="folder of the embedded warehouse; null: the metastore of the site's own Spark session",
    )
    database: str = Field("ptec", pattern=r"^[A-Za-z0-9_]+$", description="database of our tables")
    artifacts: str | None = Field(
        None,
        validate_default=True,
        description="folder that keeps registered artifacts; null: 'artifacts' in the folder above",
    )
    master: str = Field(
        "local[*,4]",
        description="Spark master of the embedded session; the 4 lets a task be tried again when a worker dies",
    )
    remote: SecretStr | None = Field(
        None,
        description="address of a Spark Connect server, in place of a Spark of one's own; folder must be null then",
    )
    spark: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="more Spark settings of the embedded session, by their full names",
        json_schema_extra=SECRET,
    )

    # Of one field, as the others below: pydantic leaves out what is asked of a whole section that has any fault.
    @field_validator("artifacts")
    @classmethod
    def _artifacts_have_a_place(cls, artifacts: str | None, info: ValidationInfo) -> str | None:
        if artifacts is None and info.data.get("folder", "") is None:
            raise ValueError("must be set where warehouse.folder is null")
        return artifacts

    @field_validator("remote")
    @classmethod
    def _server_has_the_tables(cls, remote: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if remote is not None:
            check_address(remote, "sc")
            if (folder := info.data.get("folder")) is not None:
                raise ValueError(f"must be null unless warehouse.folder is null, and that is {folder!r}")
        return remote

    @property
    def artifact_folder(self) -> Path:
        """Where ``ptec register`` copies artifacts to."""
        return Path(self.artifacts) if self.artifacts else Path(self.folder or "") / "artifacts"


class SourceConfig(Section):
    """A table of companies: a Delta table or view by name, or a Delta or Parquet folder by path."""

    table: str | None = Field(None, min_length=1, description="name, for instance 'crm.companies'")
    path: str | None = Field(
        None, min_length=1, validate_default=True, description="folder of a Delta or Parquet table"
    )
    version: int | None = Field(None, ge=0, description="Delta version to read; null: the newest")
    key: str = Field("key", min_length=1, description="column that identifies a company")

    @field_validator("path")
    @classmethod
    def _one_place(cls, path: str | None, info: ValidationInfo) -> str | None:
        if "table" in info.data and (info.data["table"] is None) == (path is None):
            raise ValueError("exactly one of table and path must be set")
        return path


class ScoreSourceConfig(SourceConfig):
    """The source of a run."""

    columns: dict[str, str | None] = Field(
        default_factory=dict,
        description="template field: source column, where the names differ; null: the source has no such column",
    )
    accept_new: bool = Field(False, description="accept another source than earlier runs of this model read")


class ModelChoice(Section):
    """Which registered model scores."""

    alias: str = Field("champion", pattern=r"^[A-Za-z0-9_]+$", description="pointer in the aliases table")
    id: str | None = Field(None, min_length=6, description="a model_id or its beginning; wins over alias")


class EngineConfig(Section):
    """How texts become logits on an executor."""

    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="dtype of the backbone; head and calibration stay float32. auto: bfloat16 if the driver's CPU, "
        "or the GPU of a task, has it",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="auto: the GPU that Spark assigns to a task, else the CPU; cuda: also where Spark assigns none, as "
        "in local mode",
    )
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="maximum text positions of one forward pass, padding included; a longer text is a pass of its own. "
        "null: 1024, on a GPU as many as fit in its free memory",
    )
    window_rows: int = Field(4096, ge=1, description="rows that are read ahead and sorted by length")
    window_bytes: int = Field(32_000_000, ge=1, description="maximum bytes of text that are read ahead")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads of a worker; null: spark.task.cpus")


class VerifyConfig(Section):
    """The sample that ``ptec verify`` scores."""

    rows: int = Field(
        200, ge=1, le=100_000, description="distinct texts drawn from the source; its longest ones come on top"
    )
    seed: int = Field(0, ge=-(2**63), le=2**63 - 1, description="another one draws other texts")


class EstimateConfig(Section):
    """How long ``ptec estimate`` measures."""

    seconds: float = Field(30.0, gt=0, description="about so long texts are scored, to measure how fast that is")


class NoticeConfig(Section):
    """What a night says of itself, and whom it tells when somebody has to act."""

    log: Literal["text", "json"] = Field(
        "text", description="lines on standard error: plain, or each a JSON object with at, level, command and message"
    )
    webhook: SecretStr | None = Field(
        None, description="address that gets a JSON message by POST when the night fails or says to train again"
    )
    webhook_on: list[Literal["failed", "retrain"]] = Field(
        ["failed", "retrain"], description="of which of the two it is told"
    )

    @field_validator("webhook")
    @classmethod
    def _webhook_is_an_address(cls, webhook: SecretStr | None) -> SecretStr | None:
        if webhook is not None:
            check_address(webhook, "https", "http")
        return webhook


class RunConfig(Section):
    """How a scoring run works."""

    commit_minutes: float = Field(
        10.0, gt=0, description="minutes of scoring between two commits to staging; a killed run loses no more"
    )
    task_seconds: float = Field(
        10.0, gt=0, description="seconds of scoring in a Spark task; longer for runs of over 1,500 tasks"
    )
    tokens_per_second: float = Field(
        2000.0, gt=0, description="expected tokens per second of one task slot; for a GPU about 50000"
    )
    retry_errors: bool = Field(False, description="score rows with status error again although nothing changed")
    max_error_fraction: float = Field(
        0.1,
        ge=0,
        le=1,
        description="largest share of the written companies that may have errors, of at least 100 companies; with more "
        "nothing is merged. 1: no limit",
    )
    max_removed_fraction: float = Field(
        0.5,
        ge=0,
        le=1,
        description="largest share of the active companies that may be missing from the source, of at least 100 "
        "companies; with more nothing is scored or merged. 1: no limit",
    )
    keep_staged_days: int = Field(7, ge=1, description="days for which scores of killed runs stay in staging for reuse")


class ScoreConfig(Section):
    """Configuration of ``ptec score``, and of ``ptec verify`` and ``ptec estimate`` before it."""

    warehouse: WarehouseConfig = WarehouseConfig()
    source: ScoreSourceConfig
    model: ModelChoice = ModelChoice()
    shadows: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]] = Field(
        default_factory=list, description="aliases or model_ids that score in the same night and show in no view"
    )
    engine: EngineConfig = EngineConfig()
    run: RunConfig = RunConfig()
    drift: DriftConfig = DriftConfig()
    notice: NoticeConfig = NoticeConfig()
    verify: VerifyConfig = VerifyConfig()
    estimate: EstimateConfig = EstimateConfig()

    def stored(self) -> str:
        """Return it as JSON for the table of runs, which more people read: without what may hold a secret."""
        return self.model_dump_json(exclude={"warehouse": {"spark", "remote"}, "notice": {"webhook"}})

    @field_validator("shadows")
    @classmethod
    def _shadows_are_others(cls, shadows: list[str], info: ValidationInfo) -> list[str]:
        model, faults = info.data.get("model"), []
        if model is not None and (own := model.id or model.alias) in shadows:
            faults.append(f"must name other models than the night's own, named {own!r}")
        if twice := sorted({name for name in shadows if shadows.count(name) > 1}):
            faults.append(f"must name each model once, named more often: {', '.join(map(repr, twice))}")
        refuse(faults)
        return shadows


class ShadowConfig(ScoreConfig):
    """Configuration of a shadow's run: the night's, with its own model."""

    shadow_of: str  # run_id of the champion's run, so that the table runs says what the run was
