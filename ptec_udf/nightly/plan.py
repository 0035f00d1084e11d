"""The facts of a run, pinned before anything is read, and the decision whether it has work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from ptec_udf.config import ScoreConfig
from ptec_udf.engine.openvino_engine import convert_artifact
from ptec_udf.engine.udf import engine_settings
from ptec_udf.errors import ConfigError, UserError, collect_errors
from ptec_udf.model.artifact import Artifact, load_artifact
from ptec_udf.model.backbone import resolve
from ptec_udf.nightly.runs import History, RunRecord, new_run_id
from ptec_udf.text.columns import column_errors, text_column
from ptec_udf.text.template import parse_template, text_id
from ptec_udf.warehouse import mlflow_aliases, registry
from ptec_udf.warehouse.source import PinnedSource, pin
from ptec_udf.warehouse.tables import Warehouse


@dataclass(frozen=True)
class ScoringRun:
    """The model, the source and the versions of the tables that a run works with."""

    warehouse: Warehouse
    config: ScoreConfig
    artifact: Artifact
    source: PinnedSource
    table_id: str  # Delta's own id of the source; source_id stays when the table is replaced in place
    alias: str | None  # that chose the model
    run_id: str
    text_id: str  # hash of how a text is made
    started: datetime  # later than the start of all earlier runs
    history: History
    scores_version: int
    corrections_version: int
    dtype: str | None  # of the backbone
    same_logits: Sequence[str]  # models with the same logits, this one among them

    @property
    def model_id(self) -> str:
        """Content hash of the model."""
        return self.artifact.model_id

    @property
    def logits_id(self) -> str:
        """Hash of all that determines logits; calibration and thresholds do not."""
        return self.artifact.logits_id(self.dtype or "float32", self.config.engine.kind)

    @property
    def last_shown(self) -> Row | None:
        """The last run that wrote what the run's screen shows."""
        return self.history.last_shown(alias=self.alias, model_id=self.model_id)

    def scores(self) -> DataFrame:
        """Return the model's rows of table ``scores`` at the pinned version."""
        scores = self.warehouse.read("scores", self.scores_version)
        return scores.where(F.col("model_id") == self.model_id)

    def source_rows(self) -> DataFrame:
        """Return the rows of the pinned source."""
        return self.source.read(self.warehouse.spark)

    def text(self) -> Column:
        """Return the text of a source row."""
        template = parse_template(self.artifact.manifest.template)
        return text_column(self.source_rows().schema, template, self.config.source.columns)

    def record(self) -> RunRecord:
        """Return the run's row of table ``runs`` as it starts."""
        return RunRecord(
            run_id=self.run_id,
            config=self.config.stored(),
            source_id=self.source.source_id,
            source_name=self.source.name,
            source_version=self.source.version,
            table_id=self.table_id,
            text_id=self.text_id,
            model_id=self.model_id,
            alias=self.alias,
            started=self.started,
            corrections_version=self.corrections_version,
        )


def pin_run(spark: SparkSession, config: ScoreConfig) -> ScoringRun:
    """Create missing tables, find the model, and fix the versions of source, scores and corrections.

    Raise UserError for a model or a source that cannot be used; for both a ConfigError with all errors.
    """
    warehouse, choice = Warehouse(spark, config.warehouse.database), config.model
    warehouse.ensure()
    try:
        model = registry.find(warehouse, alias=choice.alias, model_id=choice.id)
        artifact = load_artifact(model["location"], model["model_id"])
        if choice.mlflow and not choice.id:
            mlflow_aliases.check_alias(choice.mlflow, choice.alias, artifact.model_id)
    except UserError as error:
        errors = list(error.errors)
        with collect_errors(errors):
            pin(warehouse.spark, config.source)
        raise error if errors == error.errors else ConfigError(errors) from None
    scores_version = warehouse.version("scores")  # before the history, which then has all runs that made it
    history = History.read(warehouse)
    newest = pin(warehouse.spark, config.source)
    source = _with_known_id(newest, history)
    # A model_id that the alias points to counts as the alias: the run changes what its screen shows.
    moves = registry.moves_of(warehouse, choice.alias) if choice.id else ()
    alias = choice.alias if not choice.id or (moves and moves[-1]["model_id"] == artifact.model_id) else None
    columns_id = text_id(artifact.manifest.template, config.source.columns, config.source.key)
    return ScoringRun(
        warehouse=warehouse,
        config=config,
        artifact=artifact,
        source=source,
        table_id=newest.source_id,
        alias=alias,
        run_id=new_run_id(artifact.model_id, source.source_id, source.version, alias=alias, text_id=columns_id),
        text_id=columns_id,
        started=history.next_start(datetime.now(UTC)),
        history=history,
        scores_version=scores_version,
        corrections_version=warehouse.version("corrections"),
        dtype=engine_settings(warehouse.spark, config.engine).dtype if artifact.manifest.backbone else None,
        same_logits=registry.with_logits(warehouse, artifact.model_id),
    )


def repin(run: ScoringRun) -> ScoringRun:
    """Pin the newest versions of the tables; model, source and run_id stay."""
    scores, corrections = map(run.warehouse.version, ("scores", "corrections"))  # before the history, as in pin_run
    return replace(run, scores_version=scores, corrections_version=corrections, history=History.read(run.warehouse))


def _with_known_id(source: PinnedSource, history: History) -> PinnedSource:
    """Keep the id of a table that was replaced in place: CREATE OR REPLACE continues its versions under another id."""
    last = history.last_done(source_name=source.name)
    if source.version is None or last is None or last["source_version"] is None:
        return source
    is_known = last["table_id"] == source.source_id or source.version > last["source_version"]
    return replace(source, source_id=last["source_id"]) if is_known else source


def nothing_to_do(run: ScoringRun) -> str | None:
    """Return why the last run of this screen did all that this one would do; None if there may be work."""
    last = run.last_shown
    if last is None or run.config.run.retry_errors or run.source.version is None:
        return None
    seen = tuple(last[name] for name in ("source_id", "source_version", "model_id", "text_id", "corrections_version"))
    current = (run.source.source_id, run.source.version, run.model_id, run.text_id, run.corrections_version)
    # Housekeeping may have removed the scores; another dtype or engine scores again.
    if seen != current or run.scores().where(F.col("logits_id") == run.logits_id).isEmpty():
        return None
    return f"nothing to do: run {last['run_id']} scored version {run.source.version} of {run.source.name}"


def superseded(run: ScoringRun) -> str | None:
    """Return why the run is too late: a newer version of its source was scored; None if it is not."""
    newest = run.history.newest_version(run.model_id, run.source.source_id)
    if run.source.version is None or run.source.version >= newest:
        return None
    return f"nothing to do: version {newest} of {run.source.name} was scored, which is newer than {run.source.version}"


def check(run: ScoringRun) -> None:
    """Refuse a run that is certain to fail, with all errors at once, before anything is written.

    Raise ConfigError for a source that does not fit the model or the earlier runs, or BackboneError.
    """
    if errors := _source_errors(run):
        raise ConfigError(errors)
    backbone, location = run.artifact.manifest.backbone, run.artifact.folder
    if backbone is not None and run.config.engine.kind == "openvino" and location is not None:
        convert_artifact(run.artifact, location)
    elif backbone is not None:
        resolve(backbone.name).check(backbone.content_hash)


def _source_errors(run: ScoringRun) -> list[str]:
    """Return why the model cannot score this source."""
    source, config = run.source, run.config.source
    errors = []
    if not config.accept_new and _is_other_source(run):
        errors.append(
            f"source: earlier runs of this model or alias read another source than {source.name!r} (a table that was "
            "dropped and created again is another one); set --accept-new-source if this is intended"
        )
    if config.version is None and (reason := superseded(run)):
        errors.append(
            f"source: {source.name!r} went back in its versions, as a restored copy does ({reason}); "
            "write it as a new table and set --accept-new-source"
        )
    fields = parse_template(run.artifact.manifest.template).fields
    errors += column_errors(run.source_rows().schema, {name: config.columns.get(name, name) for name in fields})
    if unknown := sorted(set(config.columns) - set(fields)):
        errors.append(f"source.columns: the model's template has no field {unknown}, but {list(fields)}")
    return errors


def _is_other_source(run: ScoringRun) -> bool:
    """Return whether the model, or the alias before it was promoted, was last run on another source."""
    last = [run.history.last_done(model_id=run.model_id)]
    if run.alias:
        last.append(run.last_shown)
    return any(row is not None and row["source_id"] != run.source.source_id for row in last)
