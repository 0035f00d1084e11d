"""What a night writes: why companies entered and left labels, then their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ptec_udf.errors import PtecError
from ptec_udf.log import logger
from ptec_udf.monitor.failures import kinds_of
from ptec_udf.nightly import diff
from ptec_udf.nightly.budget import check_budget
from ptec_udf.nightly.changes import ModelLabels, screen_changes
from ptec_udf.nightly.plan import Night
from ptec_udf.nightly.rows import gone_rows, scored_rows
from ptec_udf.warehouse import registry
from ptec_udf.warehouse.retries import with_retries


def write(night: Night, changes: DataFrame, fates: Mapping[str, int], still_held: Callable[[], None]) -> None:
    """Write changes and scores; all read the rows several times, so these are kept.

    Args:
        night: whose logits are all known by now.
        changes: rows of ``diff.marked``.
        fates: companies by fate, which decide what is to be written.
        still_held: as ``hold.held`` yields it.

    Raises:
        ErrorBudgetError: if errors are too many; then nothing is written.
        HeldError: if another run has taken the hold; then scores are as that run leaves them.
        PtecError: if a run that had lost its hold has written scores; a rerun compares with these.
    """
    rows = _rows(night, changes).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        if diff.has_texts(fates):
            _check_errors(night, rows, changes.where(F.col("had_error") & F.col("fate").isin(*diff.TO_WRITE)), fates)
        still_held()
        _write_changes(night, rows, fates)
        if _writes(fates):
            # MERGE reads the table afresh each time, and replaces no row of a newer version.
            with_retries(lambda: _merge(night, rows, still_held))
    finally:
        rows.unpersist()


def _merge(night: Night, rows: DataFrame, still_held: Callable[[], None]) -> None:
    """Write scores, if no other run has begun to: changes take a while to write, and this machine may have slept."""
    still_held()
    if others := _others_since_then(night):
        raise PtecError(
            f"run {', '.join(others)} wrote scores of this model while this night was at work, although its hold had "
            "ended; they stay, and nothing was written over them: start this night again"
        )
    accept = night.config.source.accept_new
    night.warehouse.merge_scores(rows, night.record.model_id, accept_new_source=accept)


def _others_since_then(night: Night) -> list[str]:
    """Name other runs whose scores of the model have come since the night began.

    Who holds a model's scores is alone with them, but a run that stood still in MERGE may have lost its hold.
    """
    if night.warehouse.version("scores") == night.scores_version:
        return []
    now = night.warehouse.read("scores").where(F.col("model_id") == F.lit(night.record.model_id))
    names = now.select("run_id").distinct().join(night.standing(), on="run_id", how="left_anti")
    return sorted(row["run_id"] for row in names.collect() if row["run_id"] != night.record.run_id)


def _writes(fates: Mapping[str, int]) -> bool:
    """Tell whether scores change: MERGE has rows."""
    return diff.has_texts(fates) or bool(fates.get(diff.GONE))


def _rows(night: Night, changes: DataFrame) -> DataFrame:
    """Make all rows that MERGE is to write."""
    origin: dict[str, Any] = {
        "source": night.source,
        "run_id": night.record.run_id,
        "scored_at": night.record.started,
    }
    scored = scored_rows(changes, night.known(), manifest=night.artifact.manifest, **origin)
    return scored.unionByName(gone_rows(changes, night.standing(), **origin))


def _check_errors(night: Night, rows: DataFrame, retried: DataFrame, fates: Mapping[str, int]) -> None:
    """End the night where more of its companies have errors than may have them; of fewer, say which they are.

    Errors that stand already and are tried again do not count, or one that lasts would keep all that are mended away.
    """
    if not kinds_of(rows):
        return
    n_companies = sum(fates.get(fate, 0) for fate in diff.TO_WRITE) - retried.count()
    if kinds := kinds_of(rows.join(retried, on="key", how="left_anti")):
        night.record.counts["error"] = sum(kind.companies for kind in kinds)
    check_budget(kinds, n_companies, night.config.max_error_fraction)
    for kind in kinds:
        logger.warning(f"{kind}")


def _write_changes(night: Night, rows: DataFrame, fates: Mapping[str, int]) -> None:
    """Write why companies entered or left labels; before MERGE, so that a killed night writes them again."""
    model_id = night.record.model_id
    last = night.history.last_done(alias=night.record.alias, model_id=model_id)
    old_id = last["model_id"] if last else model_id
    for run in night.history.of_others_since(last):
        told = f"alias {run['alias']}" if run["alias"] else "its id alone"
        logger.warning(f"run {run['run_id']} has scored model {old_id[:12]} by {told}, and told there what changed")
    new = ModelLabels(
        model_id,
        [label.name for label in night.artifact.manifest.labels],
        [label.threshold for label in night.artifact.manifest.labels],
    )
    everything = rows.unionByName(night.standing().join(rows.select("key"), on="key", how="left_anti"))
    if last is None and night.record.alias:
        # The screen's first night: a run of another name may have scored, and has told nobody who came in.
        before, old, after = night.standing().limit(0), new, everything
    elif old_id == model_id:
        if not _writes(fates):
            # Killed before MERGE, this run may have told of a source or of corrections that have changed since.
            if not fates.get(diff.WRITTEN):
                night.warehouse.delete("score_changes", F.col("run_id") == F.lit(night.record.run_id))
            return
        # Only written keys can differ; the others stand on both sides.
        before = night.standing().join(rows.select("key"), on="key", how="left_semi")
        old, after = new, rows
    else:
        before = night.warehouse.read("scores", night.scores_version).where(F.col("model_id") == old_id)
        old = ModelLabels(old_id, *registry.labels(night.warehouse, old_id))
        after = everything
    changed = screen_changes(
        before,
        after,
        old=old,
        new=new,
        source=night.source,
        run_id=night.record.run_id,
        changed_at=night.record.started,
        same_template=last is None or last["text_id"] == night.record.text_id,
        same_logits=old_id in night.same_logits,
    )
    night.warehouse.replace_run("score_changes", changed, night.record.run_id)
