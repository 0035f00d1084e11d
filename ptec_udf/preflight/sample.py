"""Which of a source's texts stand for all of them."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ptec_udf.engine.result import WORKER_DIED
from ptec_udf.nightly.diff import key_column
from ptec_udf.nightly.plan import ScoringRun
from ptec_udf.text.columns import text_hash as hash_of


def sample_texts(run: ScoringRun, *, rows: int, seed: int, longest: int = 0) -> list[str]:
    """Draw distinct texts of the pinned source; the same ones each time, however Spark arranges its rows.

    Those that have killed a worker are left out: they would kill whoever scores them now.

    Args:
        run: its source and the model's template make the texts.
        rows: most texts that are drawn, by a hash.
        seed: another one draws others.
        longest: number of texts that are taken on top because no others have more characters.

    Returns:
        Each text once, in the order of their hashes; empty where the source has no text.
    """
    with_key = run.source_rows().where(key_column(run.config.source.key).isNotNull())
    texts = with_key.select(run.text().alias("text")).where(F.col("text").isNotNull())
    texts = texts.withColumn("text_hash", hash_of("text")).dropDuplicates(["text_hash"])
    deadly = run.scores().where(F.col("error") == WORKER_DIED).select("text_hash")
    texts = texts.join(deadly, "text_hash", "left_anti")
    drawn = _first(texts, F.xxhash64(F.lit(seed), "text_hash").asc(), rows)
    chosen = drawn.unionByName(_first(texts, F.length("text").desc(), longest)) if longest else drawn
    by_hash = {row["text_hash"]: row["text"] for row in chosen.collect()}
    return [by_hash[text_hash] for text_hash in sorted(by_hash)]


def _first(texts: DataFrame, order: Column, rows: int) -> DataFrame:
    """Return the first rows of an order; those that are equal in it come by their hash."""
    return texts.orderBy(order, "text_hash").limit(rows)
