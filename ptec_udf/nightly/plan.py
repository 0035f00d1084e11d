"""What a night works with, fixed before anything is read, and whether it has anything to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from ptec_udf.config import ScoreConfig, ShadowConfig
from ptec_udf.errors import ConfigError, HeldError, UserError, collect_errors
from ptec_udf.model.artifact import Artifact, load_artifact
from ptec_udf.model.backbone import resolve
from ptec_udf.nightly.diff import keyed_texts, marked
from ptec_udf.nightly.identity import as_known
from ptec_udf.nightly.runs import History, RunRecord
from ptec_udf.nightly.stage import known_texts
from ptec_udf.text.columns import missing_columns, text_column, unstable_columns
from ptec_udf.text.template import parse_template, text_id
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.corrections import corrections_by_company
from ptec_udf.warehouse.schemas import SCHEMAS
from ptec_udf.warehouse.source import PinnedSource, pin
from ptec_udf.warehouse.tables import Warehouse


@dataclass(frozen=True)
class Standing:
    """Scores of a model, seen from a source.

    Attributes:
        newest: version of the source that the newest were made from, of companies that are gone too; None where none
            was.
        of_this: whether scores of this source stand.
        of_another: whether scores of another source stand.
    """

    newest: int | None
    of_this: bool
    of_another: bool


@dataclass(frozen=True)
class Night:
    """What a night works with, pinned before anything is read.

    The versions are those of our own tables.
    """

    warehouse: Warehouse
    config: ScoreConfig
    source: PinnedSource
    artifact: Artifact
    history: History
    record: RunRecord
    runs_version: int
    scores_version: int
    corrections_version: int

    def texts(self) -> DataFrame:
        """The pinned source's texts, one row for each key; see ``diff.keyed_texts``."""
        source, options = self.source.read(self.warehouse.spark), self.config.source
        text = text_column(source.schema, parse_template(self.artifact.manifest.template), options.columns)
        return keyed_texts(source, options.key, text)

    def changes(self) -> DataFrame:
        """The fate of every key; see ``diff.marked``."""
        corrections = self.warehouse.read("corrections", self.corrections_version)
        return marked(
            self.texts(),
            self.standing(),
            corrections_by_company(corrections, [label.name for label in self.artifact.manifest.labels]),
            source_id=self.source.source_id,
            run_id=self.record.run_id,
            retry_errors=self.config.retry_errors,
        )

    def standing(self) -> DataFrame:
        """Scores of this model as they stood when the night began, without columns that are not of this release."""
        scores = self.warehouse.read("scores", self.scores_version).select(*SCHEMAS["scores"].names)
        return scores.where(F.col("model_id") == self.artifact.model_id)

    @cached_property
    def stands(self) -> Standing:
        """What stands of the model, whatever became of the nights that wrote it."""
        is_there = self._of_this & F.col("removed_in").isNull()
        row = self.standing().agg(
            F.max(F.when(self._of_this, F.col("source_version"))).alias("newest"),
            F.coalesce(F.bool_or(is_there), F.lit(False)).alias("of_this"),
            F.coalesce(F.bool_or(self._of_another), F.lit(False)).alias("of_another"),
        )
        return Standing(**row.first().asDict())  # type: ignore[union-attr]

    def contradicting(self, last: Row) -> DataFrame:
        """Scores that stand of another source, a newer version, or a run that began after the last one.

        A night that was killed wrote them, or one by another name, which may have read other columns.
        Where there are none, statistics in the files say so, and no row is read, but in files of both sources.
        """
        is_newer = self._of_this & (F.col("source_version") > F.lit(self.source.version))
        # Statistics have milliseconds: without one more, all files of the last run would be read.
        begun = last["started"].astimezone(UTC) + timedelta(milliseconds=1)
        later = self.standing().where(F.col("scored_at") > F.lit(begun))
        # In a scan of its own: with the other conditions, joined by OR, Delta skipped no file.
        return self.standing().where(self._of_another | is_newer).union(later)

    @property
    def _of_this(self) -> Column:
        return F.col("source_id") == F.lit(self.source.source_id)

    @property
    def _of_another(self) -> Column:
        return ~self._of_this & F.col("removed_in").isNull()

    def known(self) -> DataFrame:
        """Texts that need no scoring (any more): logits stand, under this model or one that shares them."""
        scores = self.warehouse.read("scores", self.scores_version)
        standing = scores.where(F.col("model_id").isin(self.same_logits))
        return known_texts(self.warehouse, standing, model_id=self.artifact.model_id, run_id=self.record.run_id)

    @cached_property
    def same_logits(self) -> list[str]:
        """Models that differ from this one in calibration and thresholds at most, itself among them."""
        return registry.with_logits(self.warehouse, self.artifact)


def pin_night(warehouse: Warehouse, config: ScoreConfig) -> Night:
    """Fix model, source version and scores version; no table is scanned.

    Raises:
        UserError: for a model or a source that cannot be used; a ConfigError for both.
    """
    choice = config.model
    try:
        model = registry.find(warehouse, alias=choice.alias, model_id=choice.id)
        artifact = load_artifact(model["location"], model["model_id"])
    except UserError as error:
        faults = list(error.errors)
        with collect_errors(faults):
            pin(warehouse.spark, config.source, warehouse)
        raise error if faults == error.errors else ConfigError(faults) from None
    return night_of(warehouse, config, artifact, pin(warehouse.spark, config.source, warehouse))


def night_of(warehouse: Warehouse, config: ScoreConfig, artifact: Artifact, source: PinnedSource) -> Night:
    """Make the night of a model and a pinned source, as runs and scores stand now."""
    runs_version = warehouse.version("runs")
    history, template = History.read(warehouse), artifact.manifest.template
    source = as_known(warehouse, history, source, artifact.model_id, is_accepted=config.source.accept_new)
    record = new_record(history, config, model_id=artifact.model_id, template=template, source=source)
    if estimates := history.estimates_of(record.run_id):
        record.estimated_seconds = estimates[-1]["estimated_seconds"]
    scores_version, record.corrections_version = warehouse.version("scores"), warehouse.version("corrections")
    versions = (runs_version, scores_version, record.corrections_version)
    return Night(warehouse, config, source, artifact, history, record, *versions)


def as_it_is_now(night: Night) -> Night:
    """Pin a night anew if runs or scores were written since it was pinned.

    Raises:
        HeldError: if its alias was moved meanwhile.
    """
    warehouse, alias = night.warehouse, night.record.alias
    if (warehouse.version("runs"), warehouse.version("scores")) == (night.runs_version, night.scores_version):
        return night
    if alias:
        check_alias(warehouse, alias, night.record.model_id)
    is_pinned = night.config.source.version is not None
    source = night.source if is_pinned else pin(warehouse.spark, night.config.source, warehouse)
    return night_of(warehouse, night.config, night.artifact, source)


def check_alias(warehouse: Warehouse, alias: str, model_id: str) -> None:
    """Refuse the night of a model that its alias does not point to any more.

    Raises:
        HeldError: for such a night: it would tell moves back to a model that is shown no more.
    """
    now = registry.find(warehouse, alias=alias)["model_id"]
    if now != model_id:
        raise HeldError(
            f"alias {alias} was moved to model {now[:12]} while this night of {model_id[:12]} waited; start it again"
        )


def new_record(
    history: History, config: ScoreConfig, *, model_id: str, template: str, source: PinnedSource
) -> RunRecord:
    """Begin the record of a run of a model on a pinned source."""
    alias = None if config.model.id else config.model.alias
    columns = text_id(template, config.source.columns, config.source.key)
    return RunRecord(
        run_id=history.run_id(
            model_id=model_id,
            alias=alias,
            source=source,
            text_id=columns,
            retries_errors=config.retry_errors,
        ),
        config=config.stored(),
        source=source,
        text_id=columns,
        model_id=model_id,
        alias=alias,
        started=history.after(datetime.now(UTC)),
    )


def nothing_to_do(night: Night) -> str | None:
    """Tell whether the last run of this screen saw the same source, version, model, template and corrections."""
    record, source = night.record, night.source
    last = night.history.last_done(alias=record.alias, model_id=record.model_id)
    if last is None or night.config.retry_errors:
        return None
    seen = tuple(last[name] for name in ("source_id", "source_version", "model_id", "text_id", "corrections_version"))
    now = (source.source_id, source.version, record.model_id, record.text_id, record.corrections_version)
    if seen != now or night.standing().isEmpty() or not night.contradicting(last).isEmpty():
        return None  # housekeeping may have removed a model's scores
    return (
        f"nothing to do: version {source.version} of {source.name} was scored with this model by run {last['run_id']}"
    )


def superseded(night: Night) -> str | None:
    """Tell whether scores of a newer version of this source stand already."""
    if night.config.source.version is None:
        return None  # the newest version is what was pinned
    source, newest = night.source, _newest_version(night)
    if source.version >= newest:
        return None
    return (
        f"version {source.version} of {source.name} is older than version {newest}, whose scores stand; "
        "they stay, nothing was written"
    )


def check(night: Night) -> None:
    """Refuse what can be seen to fail, all faults at once, before anything is written."""
    if faults := source_faults(night):
        raise ConfigError(faults)
    backbone = night.artifact.manifest.backbone
    if backbone is not None:
        resolve(backbone.name).check(backbone.content_hash)


def source_faults(night: Night) -> list[str]:
    """Say why a model cannot score this source; nothing if it can."""
    faults = []
    if not night.config.source.accept_new and _was_another_source(night):
        faults.append(
            f"source: earlier nights of this model or alias read another source than {night.source.name} (a table that "
            "was dropped and made again is another one); give --accept-new-source if that is meant"
        )
    newest = _newest_version(night)
    if night.source.version < newest:  # MERGE would refuse each of its rows
        faults.append(
            f"source: {night.source.name} stands at version {night.source.version}, and version {newest} of it was "
            "scored: it was put back from a copy; write it anew as a table of its own, and give --accept-new-source"
        )
    template = parse_template(night.artifact.manifest.template)
    columns = {name: night.config.source.columns.get(name, name) for name in template.fields}
    schema = night.source.read(night.warehouse.spark).schema
    faults += missing_columns(schema.names, columns) + unstable_columns(schema, columns)
    if unknown := sorted(set(night.config.source.columns) - set(template.fields)):
        faults.append(f"source.columns: the model's template has no field {unknown}, but {list(template.fields)}")
    return faults


def _newest_version(night: Night) -> int:
    """Return the newest version of the source that the model has scored; 0 if none."""
    recorded = night.history.newest_version(night.record.model_id, night.source.source_id) or 0
    # A night that was killed after its MERGE left scores and no run. Of other sources it is given another version.
    return max(recorded, night.stands.newest or 0) if night.source.kind == "delta" else recorded


def _was_another_source(night: Night) -> bool:
    """Tell whether the model, or the alias before it was promoted, was last scored on another source."""
    if night.stands.of_another:
        return True
    history, record = night.history, night.record
    last = [history.last_of_model(record.model_id)]
    if record.alias and not isinstance(night.config, ShadowConfig):  # a shadow reads what its champion does
        last.append(history.last_done(alias=record.alias, model_id=record.model_id))
    others = [run if run and run["source_id"] != night.source.source_id else None for run in last]
    # Scores of this source although the model's last row is of another: a night that accepted it was killed.
    is_accepted = others[0] is not None and night.stands.of_this
    return any(run and not (is_accepted and run["model_id"] == record.model_id) for run in others)
