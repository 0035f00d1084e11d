"""Take a training extract from a warehouse table: text, labels and split of every usable company.

Every source row gets one ``row_status``, and all statuses are counted. The rows are cached, so the source is read once.
Analysts' corrections are applied to kept rows before labels are counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import window as W

from ptec_udf.errors import SourceError
from ptec_udf.text.columns import clean, missing_columns, quoted, text_column, text_hash
from ptec_udf.text.template import parse_template
from ptec_udf.warehouse.tables import Warehouse
from training.data.config import ExtractConfig, SplitConfig
from training.data.corrections import apply_corrections
from training.data.folder import FORMAT_VERSION, check_out, write_extract
from training.data.labels import choose_labels, count_positives, label_column

if TYPE_CHECKING:
    from ptec_udf.warehouse.source import PinnedSource

SPLITS = ("train", "dev", "test")
COLUMNS = ("key", "text", "text_hash", "labels", "split")
KEPT, NULL_KEY, WITHOUT_TEXT, DUPLICATE_KEY, CROSS_SPLIT = "kept", "null_key", "without_text", "duplicate_key", "cross"
_MAX_SHOWN = 10
_MAX_SHOWN_CHARACTERS = 40


def extract(spark: SparkSession, config: ExtractConfig, source: PinnedSource) -> dict[str, Any]:
    """Write the extract that ``config`` describes.

    Args:
        spark: the session.
        config: what to read, how to make texts and labels, where to write.
        source: the table, pinned to a version.

    Returns:
        The record that is written to ``extract.json``.

    Raises:
        ConfigError: if ``out`` is in use, an excluded label does not occur, or the corrections table is wrong.
        SourceError: if columns are missing or of a wrong type, a split value is unknown, no label has enough training
            companies, or no row is left to train on.
    """
    check_out(config.out, config.overwrite)
    rows = _with_status(_select(source.read(spark), config), config.split).persist()
    try:
        record = _record(config, source) | {"counts": _count_rows(rows, config.split)}
        if not config.corrections:
            return _write(rows, config, record | {"corrections": None})
        warehouse = Warehouse(spark, config.warehouse.database)
        with apply_corrections(rows, warehouse, is_kept=F.col("row_status") == KEPT) as (corrected, corrections):
            return _write(corrected, config, record | {"corrections": corrections})
    finally:
        rows.unpersist()


def _write(rows: DataFrame, config: ExtractConfig, record: dict[str, Any]) -> dict[str, Any]:
    """Choose the labels, write the kept rows, then their record."""
    kept = rows.where(F.col("row_status") == KEPT)
    labels, dropped = choose_labels(count_positives(kept, SPLITS), config.labels)
    chosen = F.array(*[F.lit(label["name"]) for label in labels])
    data = kept.withColumn("labels", F.array_sort(F.array_intersect("labels", chosen))).select(*COLUMNS)
    record = record | {"labels": labels, "dropped_labels": dropped}
    record["fingerprint"] = _fingerprint(data, record)
    with write_extract(config.out, config.overwrite) as writer:
        data.write.parquet(writer.data_uri)
        writer.write_record(record)
    return record


def _select(df: DataFrame, config: ExtractConfig) -> DataFrame:
    """Return the extract's columns of every source row; ``split_value`` is the source's."""
    template = parse_template(config.template)
    wanted = {"source.key": config.source.key, "labels.column": config.labels.column}
    wanted |= {"split.column": config.split.column} if config.split.column else {}
    if errors := missing_columns(df.columns, wanted | {name: name for name in template.fields}):
        raise SourceError(errors)
    key = quoted(config.source.key).cast("string")
    split_value = quoted(config.split.column) if config.split.column else F.lit(None)
    selected = df.select(
        key.alias("key"),
        F.when(key.isNotNull(), text_column(df.schema, template)).alias("text"),
        label_column(df.schema, config.labels).alias("labels"),
        split_value.cast("string").alias("split_value"),
    )
    return selected.withColumn("text_hash", text_hash("text"))


def _split(config: SplitConfig) -> Column:
    """Return train, dev or test; null for an unknown value of the split column."""
    if config.column is not None:
        value = F.lower(clean(F.col("split_value")))
        return F.when(value.isin(*SPLITS), value)
    # 13 hexadecimal digits are 52 bits, which a double represents exactly.
    digits = F.conv(F.substring(F.sha2(F.concat(F.lit("split:"), "text"), 256), 1, 13), 16, 10)
    share = digits.cast("double") / F.lit(float(16**13))
    return F.when(share < config.test, "test").when(share < config.test + config.dev, "dev").otherwise("train")


def _with_status(df: DataFrame, config: SplitConfig) -> DataFrame:
    """Add ``split``, ``row_status`` and ``is_crossed``.

    A text in several splits of the column leaves train, so that equal texts are on one side. ``is_crossed`` is true for
    its rows in one of the splits.
    """
    # The hash orders rows of one key; the other columns make the choice between equal texts deterministic.
    order = [F.asc_nulls_last("text_hash"), F.col("split_value"), F.asc_nulls_last("labels")]
    of_key = W.Window.partitionBy("key").orderBy(*order)
    status = (
        F.when(F.col("key").isNull(), NULL_KEY)
        .when(F.col("text_hash").isNull(), WITHOUT_TEXT)
        .when(F.row_number().over(of_key) > 1, DUPLICATE_KEY)
        .otherwise(KEPT)
    )
    rows = df.withColumn("split", _split(config)).withColumn("row_status", status)
    if config.column is None:
        return rows.withColumn("is_crossed", F.lit(False))
    is_kept = F.col("row_status") == KEPT
    # Rows without text would all meet in one partition: spread them by key.
    of_text = W.Window.partitionBy(F.coalesce("text_hash", "key"))
    splits = F.collect_set(F.when(is_kept, F.col("split"))).over(of_text)
    # The last name in the alphabet is train where the text is in train.
    is_crossed = is_kept & (F.size("splits") > 1) & (F.col("split") == F.array_max("splits"))
    leaves_train = F.col("is_crossed") & (F.col("split") == "train")
    return (
        rows.withColumn("splits", splits)
        .withColumn("is_crossed", is_crossed)
        .drop("splits")
        .withColumn("row_status", F.when(leaves_train, CROSS_SPLIT).otherwise(F.col("row_status")))
    )


def _count_rows(rows: DataFrame, config: SplitConfig) -> dict[str, Any]:
    """Count rows by status and split; check the split column and that train has rows."""
    groups = (
        rows.groupBy("row_status", "split")
        .agg(
            F.count("*").alias("rows"),
            F.count_if(F.col("labels").isNull()).alias("unlabelled"),
            F.count_distinct(F.when(F.col("is_crossed"), F.col("text_hash"))).alias("crossed_texts"),
        )
        .collect()
    )
    if config.column is not None and any(group.split is None for group in groups):
        raise SourceError(_unknown_splits(rows, config.column))
    kept = [group for group in groups if group.row_status == KEPT]
    written = {split: sum(group.rows for group in kept if group.split == split) for split in SPLITS}
    counts = {
        "read": sum(group.rows for group in groups),
        "written": written,
        "unlabelled": sum(group.unlabelled for group in kept),
        "without_text": _n_rows(groups, WITHOUT_TEXT),
        "null_keys": _n_rows(groups, NULL_KEY),
        "duplicate_keys": _n_rows(groups, DUPLICATE_KEY),
        "cross_split_texts": sum(group.crossed_texts for group in groups),
        "cross_split_rows": _n_rows(groups, CROSS_SPLIT),
    }
    if not written["train"]:
        raise SourceError(f"train must have rows, had none; rows by status: {json.dumps(counts)}")
    return counts


def _n_rows(groups: Sequence[Row], row_status: str) -> int:
    return sum(group.rows for group in groups if group.row_status == row_status)


def _unknown_splits(rows: DataFrame, column: str) -> str:
    """Describe unknown values; many or long ones may be company texts and are not shown."""
    unknown = rows.where(F.col("split").isNull()).groupBy(F.col("split_value").alias("value")).count()
    values = unknown.orderBy(F.desc("count"), "value").limit(_MAX_SHOWN + 1).collect()
    rule = f"split.column {column!r} must contain train, dev or test only"
    if len(values) > _MAX_SHOWN:
        [(n_values, n_rows)] = unknown.agg(F.count("*"), F.sum("count")).collect()
        return f"{rule}, has {n_values} other values in {n_rows} rows"
    found = [f"{_shown(row.value)} ({row['count']} rows)" for row in values]
    return f"{rule}, has: {', '.join(found)}"


def _shown(value: str | None) -> str:
    if value is None:
        return "null"
    return repr(value) if len(value) <= _MAX_SHOWN_CHARACTERS else "(a long text)"


def _record(config: ExtractConfig, source: PinnedSource) -> dict[str, Any]:
    """Return the part of the record that is known before anything is counted."""
    filters = config.labels.model_dump(exclude={"column"})
    return {
        "format_version": FORMAT_VERSION,
        "name": source.name,
        "source_id": source.source_id,
        "version": source.version,
        "template": config.template,
        "columns": {"key": config.source.key, "labels": config.labels.column, "split": config.split.column},
        "filters": filters | config.split.model_dump(exclude={"column"}),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _fingerprint(data: DataFrame, record: dict[str, Any]) -> str:
    """Return SHA-256 over all rows, in any order, the labels and the template.

    Rows are hashed in 256 groups, so that no group is too large for one Spark value.
    """
    row = F.sha2(F.to_json(F.struct("key", "text_hash", "labels", "split")), 256)
    group = F.sha2(F.array_join(F.array_sort(F.collect_list("row")), ""), 256)
    groups = (
        data.select(row.alias("row"))
        .groupBy(F.substring("row", 1, 2).alias("start"))
        .agg(group.alias("hash"))
        .collect()
    )
    names = [label["name"] for label in record["labels"]]
    parts = [FORMAT_VERSION, record["template"], names, sorted((row.start, row.hash) for row in groups)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
