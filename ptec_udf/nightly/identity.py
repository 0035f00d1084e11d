"""Whether a source's table is the one of earlier nights.

``CREATE OR REPLACE TABLE`` and what loads by it give a table another id of Delta's, and go on with its versions. One
that is dropped and made again begins with the first; another one that is renamed into its place never had that id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from ptec_udf.errors import SourceError
from ptec_udf.nightly.runs import DONE, History
from ptec_udf.warehouse.source import PinnedSource, said
from ptec_udf.warehouse.tables import Warehouse


@dataclass(frozen=True)
class _Seen:
    """What a night scored: the id that runs know its source by, its version, and Delta's own id at this version."""

    source_id: str
    version: int
    table_id: str


def as_known(
    warehouse: Warehouse, history: History, source: PinnedSource, model_id: str, *, is_accepted: bool
) -> PinnedSource:
    """Give a table that was replaced in place since it was last scored the identity that it was known by then.

    Raises:
        SourceError: if the table's log cannot be read, unless a new source ``is_accepted``.
    """
    if source.kind != "delta":
        return source
    for seen in _nights(warehouse, history, source, model_id):
        if seen.source_id == source.source_id:
            return source
        try:
            table_id = source.id_at(warehouse.spark, seen.version)
        except (PySparkException, Py4JError) as error:
            if is_accepted:
                continue
            raise SourceError(
                f"the Delta log of {source.name} must be readable, since it tells whether this is the table of earlier "
                f"nights: {said(error)}; give --accept-new-source if it is another one"
            ) from None
        if table_id == seen.table_id:  # another table of this name has versions of these numbers too
            return replace(source, source_id=seen.source_id)
    return source


def _nights(warehouse: Warehouse, history: History, source: PinnedSource, model_id: str) -> Iterator[_Seen]:
    """Return the last night that read a source of this name, then what nights of the model did that have no row."""
    if last := history.last_of_source(source.name):
        # Earlier releases noted no id of Delta's.
        table_id = last["source_fingerprint"] or last["source_id"]
        yield _Seen(last["source_id"], last["source_version"], table_id)
    done = [row["run_id"] for row in history.rows if row["outcome"] == DONE]
    scores = warehouse.read("scores").where((F.col("model_id") == F.lit(model_id)) & F.col("removed_in").isNull())
    killed = scores.where(~F.col("run_id").isin(done)).groupBy("source_id")
    for row in killed.agg(F.max("source_version").alias("version")).collect():
        yield _Seen(row["source_id"], row["version"], row["source_id"])
