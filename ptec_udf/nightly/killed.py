"""Close runs that were killed: the history of table ``scores`` shows whether their MERGE was committed."""

from __future__ import annotations

from collections.abc import Callable

from ptec_udf.log import logger
from ptec_udf.nightly.changes import write_changes
from ptec_udf.nightly.plan import ScoringRun
from ptec_udf.nightly.runs import DONE, INTERRUPTED, History, RunRecord


def close_killed(run: ScoringRun, measure: Callable[[ScoringRun, RunRecord, int], None]) -> bool:
    """Close each earlier run of this model or alias that is still ``running``.

    A run whose MERGE is found gets its changes and is ``done``; another one is ``interrupted``. A run that is in fact
    still working writes its own row when it ends.

    Args:
        run: this run.
        measure: measures the drift of a run that wrote a version of ``scores``.

    Returns:
        Whether there was such a run.
    """
    rows = run.history.running(alias=run.alias, model_id=run.model_id, except_for=run.run_id)
    for row in rows:
        record = RunRecord.of_row(row)
        version = run.warehouse.version_of_run("scores", record.run_id)
        if version is None:
            record.close(run.warehouse, INTERRUPTED)
            logger.info(f"run {record.run_id} did not end; this run continues from the texts that it staged")
            continue
        write_changes(run.warehouse, History.read(run.warehouse), record, version)
        record.count_written(run.warehouse, version)
        if record.model_id == run.model_id:
            measure(run, record, version)
        record.close(run.warehouse, DONE)
        logger.info(f"run {record.run_id} was killed after its MERGE; its changes and its row are complete now")
    return bool(rows)
