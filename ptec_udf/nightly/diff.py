"""Compare the source's texts with the existing scores: every key gets a change type.

Texts are compared by hashes, and keys are grouped and joined with numbers alone. Spark then aggregates in hash tables
and shuffles neither texts nor logits. Texts are read again for the keys that need a score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ptec_udf.engine.scorer import ERROR
from ptec_udf.nightly.plan import ScoringRun
from ptec_udf.nightly.tasks import token_cost
from ptec_udf.text.columns import quoted, text_hash
from ptec_udf.warehouse.corrections import corrections_by_company
from ptec_udf.warehouse.schemas import SCHEMAS

NEW = "new"  # no score under this model, or the company had left the source
TEXT = "text"  # the text changed
SOURCE = "source"  # unchanged, but last scored from another source
ENGINE = "engine"  # unchanged, but last scored with another dtype or engine
RETRY = "retry"  # unchanged, but the last score failed and retry_errors is on
CORRECTED = "corrected"  # unchanged, but the corrections differ
REMOVED = "removed"  # no longer in the source
SAME = "same"  # nothing to do
NO_KEY = "no_key"  # rows without a key: counted, never scored

TO_SCORE = (NEW, TEXT, SOURCE, ENGINE, RETRY, CORRECTED)

_MAX_BROADCAST = 1_000_000  # hashes, about 100 MB

AMBIGUOUS_KEY = "the source has this key with several texts; make the key unique"


def changes_of(run: ScoringRun) -> DataFrame:
    """Classify every key of the source and of the model's scores; see ``classify_rows``."""
    labels = [label.name for label in run.artifact.manifest.labels]
    return classify_rows(
        hash_by_key(run.source_rows(), run.config.source.key, run.text()),
        run.scores(),
        corrections_by_company(run.warehouse.read("corrections", run.corrections_version), labels),
        source_id=run.source.source_id,
        logits_id=run.logits_id,
        retry_errors=run.config.run.retry_errors,
    )


def hash_by_key(source: DataFrame, key: str, text: Column) -> DataFrame:
    """Return a row for each key: key, n_rows, ambiguous_hash, and 64 bits of the text's hash as digest.

    ``ambiguous_hash`` is the hash of all texts of a key that has several; it does not depend on their order. Rows
    without a key become one row.
    """
    rows = source.select(key_column(key).alias("key"), _digest(text_hash(text)).alias("digest"))
    by_key = rows.groupBy("key").agg(
        F.count("*").alias("n_rows"),
        F.min("digest").alias("lowest"),
        F.max("digest").alias("highest"),
        F.bit_xor("digest").alias("combined"),
    )
    combined_hash = F.sha2(F.concat_ws(",", "lowest", "highest", "combined"), 256)
    hashed = by_key.withColumn("ambiguous_hash", F.when(F.col("lowest") != F.col("highest"), combined_hash))
    digest = F.when(F.col("ambiguous_hash").isNull(), F.col("lowest")).otherwise(_digest(F.col("ambiguous_hash")))
    return hashed.select("key", "n_rows", "ambiguous_hash", digest.alias("digest"))


def key_column(key: str) -> Column:
    """Return a source's key column as valid text."""
    return F.make_valid_utf8(quoted(key).cast("string"))


def _digest(text_hash_column: Column) -> Column:
    return F.xxhash64(F.coalesce(text_hash_column, F.lit("")))


def classify_rows(
    hashes: DataFrame,
    scores: DataFrame,
    corrections: DataFrame,
    *,
    source_id: str,
    logits_id: str,
    retry_errors: bool,
) -> DataFrame:
    """Give every key of ``hash_by_key`` and of a model's scores its change type; add the company's corrections.

    Keys that left the source in an earlier run have no row.
    """
    none = F.array().cast(SCHEMAS["scores"]["corrected"].dataType)
    old = scores.select(
        "key",
        _digest(F.col("text_hash")).alias("old_digest"),
        F.col("removed_in").isNull().alias("is_active"),
        (F.col("status") == ERROR).alias("failed"),
        F.col("source_id").alias("old_source"),
        F.col("logits_id").alias("old_logits"),
        F.coalesce("corrected", none).alias("old_corrected"),
    )
    new = hashes.join(corrections, on="key", how="left").withColumn("corrected", F.coalesce("corrected", none))
    both = new.join(old, on="key", how="full_outer")
    classified = both.withColumn("change_type", _change_type(source_id, logits_id, retry_errors))
    return classified.where(F.col("change_type").isNotNull()).select(*hashes.columns, "change_type", "corrected")


def _change_type(source_id: str, logits_id: str, retry_errors: bool) -> Column:
    """Return a key's change type; null for a company that left the source in an earlier run."""
    was_active = F.coalesce("is_active", F.lit(False))
    in_source = F.col("n_rows").isNotNull()
    return (
        F.when(in_source & F.col("key").isNull(), F.lit(NO_KEY))
        .when(~in_source & was_active, F.lit(REMOVED))
        .when(~in_source, F.lit(None).cast("string"))
        .when(~was_active, F.lit(NEW))
        .when(F.col("digest") != F.col("old_digest"), F.lit(TEXT))
        .when(F.col("old_source") != F.lit(source_id), F.lit(SOURCE))
        .when(F.col("old_logits") != F.lit(logits_id), F.lit(ENGINE))
        .when(F.lit(retry_errors) & F.col("failed"), F.lit(RETRY))
        .when(F.col("corrected") != F.col("old_corrected"), F.lit(CORRECTED))
        .otherwise(F.lit(SAME))
    )


def count_change_types(changes: DataFrame) -> dict[str, int]:
    """Count companies by change type; of rows without a key the rows."""
    counted = F.when(F.col("change_type") == NO_KEY, F.col("n_rows")).otherwise(F.lit(1))
    return {row[0]: row[1] for row in changes.groupBy("change_type").agg(F.sum(counted)).collect()}


@dataclass(frozen=True)
class Difference:
    """What a run writes: companies by change type, and a row for each key that changes, see ``rows_to_write``."""

    counts: Mapping[str, int]
    rows: DataFrame

    @property
    def n_to_score(self) -> int:
        """Number of companies that get a new score."""
        return sum(self.counts.get(change_type, 0) for change_type in TO_SCORE)

    @property
    def n_to_write(self) -> int:
        """Number of companies that get a new row."""
        return self.n_to_score + self.counts.get(REMOVED, 0)

    def hashes(self) -> DataFrame:
        """Return text_hash of the texts to score, each once; executors get all of them unless they are millions."""
        found = self.rows.where(F.col("cost").isNotNull()).select("text_hash").distinct()
        return F.broadcast(found) if self.n_to_score <= _MAX_BROADCAST else found


def rows_to_write(run: ScoringRun, changes: DataFrame) -> DataFrame:
    """Return a row for each key that the run writes, with the columns of table ``diff_staging`` but run_id.

    The source is read once more, for the hash and the length of the texts of these keys alone.
    """
    scored = changes.where(F.col("change_type").isin(*TO_SCORE))
    texts = read_by_key(run, scored.where(F.col("ambiguous_hash").isNull()).select("key"))
    max_tokens = run.artifact.manifest.max_tokens
    hashes = texts.select("key", text_hash("text").alias("text_hash"), token_cost(max_tokens).alias("cost"))
    rows = scored.join(hashes.dropDuplicates(["key"]), on="key", how="left")
    rows = rows.withColumn("text_hash", F.coalesce("ambiguous_hash", "text_hash"))
    removed = changes.where(F.col("change_type") == REMOVED).select("key", "change_type")
    is_ambiguous = F.col("ambiguous_hash").isNotNull().alias("is_ambiguous")
    names = ("key", "change_type", "text_hash", "cost", "corrected")
    return rows.select(*names, is_ambiguous).unionByName(removed, allowMissingColumns=True)


def read_by_key(run: ScoringRun, wanted: DataFrame, columns: Sequence[str] = ()) -> DataFrame:
    """Return key and text of the source rows of some keys, each key once in ``wanted``, with its ``columns``."""
    prefixed = {name: f"__ptec_{name}" for name in ("key", *columns)}  # the source may have columns of these names
    right = wanted.select(*[F.col(name).alias(alias) for name, alias in prefixed.items()])
    joined = run.source_rows().join(right, on=key_column(run.config.source.key) == F.col(prefixed["key"]))
    return joined.select(*[F.col(alias).alias(name) for name, alias in prefixed.items()], run.text().alias("text"))


def stage_difference(run: ScoringRun, changes: DataFrame, counts: Mapping[str, int]) -> Difference:
    """Write ``rows_to_write`` to ``diff_staging``, since later steps read them several times."""
    rows = rows_to_write(run, changes).withColumn("run_id", F.lit(run.run_id))
    run.warehouse.append("diff_staging", rows)
    staged = run.warehouse.read("diff_staging").where(F.col("run_id") == run.run_id)
    return Difference(counts, staged.drop("run_id"))


def count_removals_on_screen(run: ScoringRun) -> dict[str, int]:
    """Count the companies that the alias shows under another model by whether the source still has them.

    Empty if the run's model is not new to its alias, or its source is another one.
    """
    last = run.last_shown
    if last is None or last["model_id"] == run.model_id or last["source_id"] != run.source.source_id:
        return {}
    scores = run.warehouse.read("scores", run.scores_version)
    shown = scores.where((F.col("model_id") == last["model_id"]) & F.col("removed_in").isNull()).select("key")
    keys = run.source_rows().select(key_column(run.config.source.key).alias("key")).distinct()
    n_shown, n_removed = shown.count(), shown.join(keys, on="key", how="left_anti").count()
    return {REMOVED: n_removed, SAME: n_shown - n_removed}
