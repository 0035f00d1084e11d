"""What a night has to do: compare the source's texts with the scores that stand.

Every key gets a fate, decided by text hashes alone, with or without a change data feed.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ptec_udf.engine.result import ERROR
from ptec_udf.text.columns import quoted, text_hash
from ptec_udf.warehouse.schemas import SCORES

NEW = "new"  # no score under this model yet, or the company was gone
TEXT = "text"  # the text changed
SOURCE = "source"  # unchanged, but last seen in another source
RETRY = "retry"  # unchanged, but failed last time and retry is on
CORRECTED = "corrected"  # unchanged, but analysts say something else of its labels
GONE = "gone"  # no longer in the source
SAME = "same"  # nothing to do
WRITTEN = "written"  # by this very run, which was killed after its MERGE
NO_KEY = "no_key"  # rows that nothing identifies: counted, never scored

TO_WRITE = (NEW, TEXT, SOURCE, RETRY, CORRECTED)
REWRITTEN = (SOURCE, RETRY, CORRECTED, WRITTEN)  # may be in a run's rows although their text is what it was

AMBIGUOUS_KEY = "key stands on several rows with different texts; make it unique in the source"


def keyed_texts(source: DataFrame, key: str, text: Column) -> DataFrame:
    """Make one row per key.

    Args:
        source: source rows.
        key: the source's key column; rows without a key come as one row with a null key.
        text: the text of a source row.

    Returns:
        key, n_rows, text, text_hash, conflict. A key with several different texts has ``conflict`` true, no
        text, and a hash of all its hashes, so that the next night knows it again.
    """
    hash_or_blank = F.coalesce("text_hash", F.lit(""))
    one_per_key = (
        source.select(F.make_valid_utf8(quoted(key).cast("string")).alias("key"), text.alias("text"))
        .withColumn("text_hash", text_hash("text"))
        .groupBy("key")
        .agg(
            F.count("*").alias("n_rows"),
            # Not a set of hashes: it would grow with the rows of one key, or of none.
            F.min(hash_or_blank).alias("least"),
            F.max(hash_or_blank).alias("greatest"),
            F.bit_xor(F.xxhash64(hash_or_blank)).alias("mixed"),
            F.first("text", ignorenulls=True).alias("text"),
            F.first("text_hash", ignorenulls=True).alias("text_hash"),
        )
    )
    conflict = F.col("least") != F.col("greatest")
    of_all = F.sha2(F.concat_ws(",", "least", "greatest", "mixed"), 256)
    return one_per_key.select(
        "key",
        "n_rows",
        F.when(~conflict, F.col("text")).alias("text"),
        F.when(conflict, of_all).otherwise(F.col("text_hash")).alias("text_hash"),
        conflict.alias("conflict"),
    )


def marked(
    texts: DataFrame,
    standing: DataFrame,
    corrections: DataFrame,
    *,
    source_id: str,
    run_id: str,
    retry_errors: bool,
) -> DataFrame:
    """Give every key of source and scores its fate.

    Args:
        texts: from ``keyed_texts``.
        standing: rows of the scores table under this model.
        corrections: from ``corrections_by_company``.
        source_id: the source of this night.
        run_id: this night's run.
        retry_errors: whether rows with status error are scored again.

    Returns:
        key, n_rows, fate, text, text_hash, conflict, corrected, had_error; text is null where nothing is to be scored,
        and ``had_error`` tells that the same text stands with an error. Keys that are gone since an earlier run and
        still not in the source have no row.
    """
    none = F.array().cast(SCORES["corrected"].dataType)
    old = standing.select(
        "key",
        F.lit(True).alias("stands"),
        F.col("text_hash").alias("old_hash"),
        F.col("status").alias("old_status"),
        F.col("source_id").alias("old_source"),
        F.col("run_id").alias("old_run"),
        F.col("removed_in").isNotNull().alias("was_gone"),
        F.coalesce("corrected", none).alias("old_corrected"),
    )
    new = texts.join(corrections, on="key", how="left").withColumn("is_there", F.lit(True))
    new = new.withColumn("corrected", F.coalesce("corrected", none))
    both = new.join(old, on="key", how="full_outer")
    fate = _fate(source_id, run_id, retry_errors)
    is_same = F.col("text_hash").eqNullSafe(F.col("old_hash"))
    had_error = is_same & (F.col("old_status") == ERROR) & ~F.col("was_gone")
    return (
        both.withColumn("fate", fate)
        .where(F.col("fate").isNotNull())
        .select(
            "key",
            "n_rows",
            "fate",
            F.when(F.col("fate").isin(*TO_WRITE), F.col("text")).alias("text"),
            "text_hash",
            "conflict",
            "corrected",
            had_error.alias("had_error"),
        )
    )


def has_texts(fates: Mapping[str, int]) -> bool:
    """Tell whether there are companies to write from the source, those that left it apart."""
    return any(fates.get(fate) for fate in TO_WRITE)


def count_fates(changes: DataFrame) -> tuple[dict[str, int], int]:
    """Count companies by fate (rows without a key: rows), and the companies with a text to score."""
    counted = F.when(F.col("fate") == NO_KEY, F.col("n_rows")).otherwise(F.lit(1))
    counts = changes.groupBy("fate").agg(F.sum(counted).alias("count"), F.count("text").alias("texts")).collect()
    return {row["fate"]: row["count"] for row in counts}, sum(row["texts"] for row in counts)


def _fate(source_id: str, run_id: str, retry_errors: bool) -> Column:
    """Decide a key's fate; null for one that is gone and was."""
    was_there = F.col("stands").isNotNull() & ~F.col("was_gone")
    is_there = F.col("is_there").isNotNull()
    failed = F.lit(retry_errors) & (F.col("old_status") == ERROR)
    return (
        F.when(F.col("key").isNull(), F.lit(NO_KEY))
        .when(~is_there & was_there, F.lit(GONE))
        .when(~is_there & (F.col("old_run") == F.lit(run_id)), F.lit(WRITTEN))
        .when(~is_there, F.lit(None).cast("string"))
        .when(~was_there, F.lit(NEW))
        .when(~F.col("text_hash").eqNullSafe(F.col("old_hash")), F.lit(TEXT))
        .when(F.col("old_source") != F.lit(source_id), F.lit(SOURCE))
        # Before the retry: what failed in this run was tried in it.
        .when(F.col("old_run") == F.lit(run_id), F.lit(WRITTEN))
        .when(failed, F.lit(RETRY))
        .when(F.col("corrected") != F.col("old_corrected"), F.lit(CORRECTED))
        .otherwise(F.lit(SAME))
    )
