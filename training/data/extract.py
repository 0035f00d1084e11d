"""Take a training extract from a warehouse table: text, labels and split of every usable company.

Every source row gets one ``row_status``, and all statuses are counted. The rows are cached, so the source is read once.
Analysts' corrections are applied to kept rows before labels are counted.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql import window as W

from ptec_training.data.config import ExtractConfig, LabelsConfig, SplitConfig
from ptec_training.data.corrections import apply_corrections
from ptec_training.data.folder import FORMAT_VERSION, SPLITS, check_out, write_extract
from ptec_training.data.labels import choose_labels
from ptec_udf.errors import SourceError
from ptec_udf.text.columns import clean, column_errors, quoted, text_column, text_hash
from ptec_udf.text.template import parse_template
from ptec_udf.warehouse.tables import Warehouse

if TYPE_CHECKING:
    from ptec_udf.warehouse.source import PinnedSource

COLUMNS = ("key", "text", "text_hash", "labels", "split")
KEPT, NULL_KEY, WITHOUT_TEXT, DUPLICATE_KEY = "kept", "null_key", "without_text", "duplicate_key"
IN_OTHER_SPLIT = "text_in_dev_or_test"

_STRINGS, _NESTED = (T.StringType, T.CharType, T.VarcharType), (T.ArrayType, T.MapType, T.StructType)
_MAX_SHOWN = 5
_MAX_SHOWN_CHARACTERS = 40


def extract(spark: SparkSession, config: ExtractConfig, source: PinnedSource) -> dict[str, Any]:
    """Write the extract of a table that is pinned to a version; return its record. May raise a UserError."""
    check_out(config.out, config.overwrite)
    rows = _with_status(_select(source.read(spark), config), config.split).persist()
    try:
        counts, corrections = _count_rows(rows, config.split), None
        kept = rows.where(F.col("row_status") == KEPT)
        if config.corrections:
            kept, corrections = apply_corrections(kept, Warehouse(spark, config.warehouse.database))
        labels, dropped = _choose_labels(kept, config.labels)
        names = [label["name"] for label in labels]
        chosen = F.array_sort(F.array_intersect("labels", F.array(*map(F.lit, names))))
        data = kept.withColumn("labels", chosen).select(*COLUMNS)
        record = {
            "format_version": FORMAT_VERSION,
            "name": source.name,
            "source_id": source.source_id,
            "version": source.version,
            "template": config.template,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": config.model_dump(mode="json", include={"labels", "split"}),
            "counts": counts,
            "corrections": corrections,
            "labels": labels,
            "dropped_labels": dropped,
            "fingerprint": _fingerprint(data, config.template, names),
        }
        write_extract(config.out, config.overwrite, record, data.write.parquet)
        return record
    finally:
        rows.unpersist()


def _select(df: DataFrame, config: ExtractConfig) -> DataFrame:
    """Return the extract's columns of every source row; ``split_value`` is the source's."""
    template = parse_template(config.template)
    wanted = {"source.key": config.source.key, "labels.column": config.labels.column}
    wanted |= {"split.column": config.split.column} if config.split.column else {}
    if errors := column_errors(df.schema, wanted | {name: name for name in template.fields}):
        raise SourceError(errors)
    key = quoted(config.source.key).cast("string")
    split_value = quoted(config.split.column) if config.split.column else F.lit(None)
    selected = df.select(
        key.alias("key"),
        F.when(key.isNotNull(), text_column(df.schema, template)).alias("text"),
        _label_column(df.schema, config.labels).alias("labels"),
        split_value.cast("string").alias("split_value"),
    )
    return selected.withColumn("text_hash", text_hash("text"))


def _label_column(schema: T.StructType, config: LabelsConfig) -> Column:
    """Return clean, distinct, sorted labels; null where the source is null."""
    column, dtype = quoted(config.column), schema[config.column].dataType
    if config.delimiter is not None and isinstance(dtype, _STRINGS):
        column = F.split(column, re.escape(config.delimiter))
    elif config.delimiter is not None or not isinstance(dtype, T.ArrayType) or isinstance(dtype.elementType, _NESTED):
        rule = "an array of text, numbers, booleans or dates, or a string with labels.delimiter"
        raise SourceError(f"labels.column {config.column!r} must be {rule}, was {dtype.simpleString()}")
    names = F.transform(column, lambda name: clean(name.cast("string")))
    return F.array_sort(F.array_distinct(F.array_compact(names)))


def _with_status(df: DataFrame, config: SplitConfig) -> DataFrame:
    """Add ``split`` and ``row_status``; a text that is also in dev or test leaves train."""
    # The hash orders rows of one key; the other columns make the choice between equal texts deterministic.
    order = [F.asc_nulls_last("text_hash"), F.col("split_value"), F.asc_nulls_last("labels")]
    status = (
        F.when(F.col("key").isNull(), NULL_KEY)
        .when(F.col("text_hash").isNull(), WITHOUT_TEXT)
        .when(F.row_number().over(W.Window.partitionBy("key").orderBy(*order)) > 1, DUPLICATE_KEY)
        .otherwise(KEPT)
    )
    rows = df.withColumn("split", _split(config)).withColumn("row_status", status)
    is_kept, is_train = F.col("row_status") == KEPT, F.col("split") == "train"
    # Rows without text would all meet in one partition: spread them by key.
    of_text = W.Window.partitionBy(F.coalesce("text_hash", "key"))
    n_elsewhere = F.count_if(is_kept & ~is_train).over(of_text)
    leaves_train = is_kept & is_train & (F.col("n_elsewhere") > 0)
    left = F.when(leaves_train, IN_OTHER_SPLIT).otherwise(F.col("row_status"))
    return rows.withColumn("n_elsewhere", n_elsewhere).withColumn("row_status", left).drop("n_elsewhere")


def _split(config: SplitConfig) -> Column:
    """Return train, dev or test; null for an unknown value of the split column."""
    if config.column is not None:
        value = F.lower(clean(F.col("split_value")))
        return F.when(value.isin(*SPLITS), value)
    # 13 hexadecimal digits are 52 bits, which a double represents exactly.
    digits = F.conv(F.substring(F.sha2(F.concat(F.lit("split:"), "text"), 256), 1, 13), 16, 10)
    share = digits.cast("double") / F.lit(float(16**13))
    return F.when(share < config.test, "test").when(share < config.test + config.dev, "dev").otherwise("train")


def _count_rows(rows: DataFrame, config: SplitConfig) -> dict[str, Any]:
    """Count rows by status and split; check the split column and that train has rows."""
    n_unlabelled = F.count_if(F.col("labels").isNull()).alias("unlabelled")
    groups = rows.groupBy("row_status", "split").agg(F.count("*").alias("rows"), n_unlabelled).toPandas()
    if config.column is not None and groups["split"].isna().any():
        raise SourceError(_unknown_splits(rows, config.column))
    kept, by_status = groups[groups["row_status"] == KEPT], groups.groupby("row_status")["rows"].sum()
    written = kept.groupby("split")["rows"].sum().reindex(SPLITS, fill_value=0)
    counts = {
        "read": int(groups["rows"].sum()),
        "written": {split: int(n) for split, n in written.items()},
        "unlabelled": int(kept["unlabelled"].sum()),
        **{status: int(by_status.get(status, 0)) for status in (NULL_KEY, WITHOUT_TEXT, DUPLICATE_KEY, IN_OTHER_SPLIT)},
    }
    if not written["train"]:
        raise SourceError(f"train must have rows, had none; rows by status: {json.dumps(counts)}")
    return counts


def _unknown_splits(rows: DataFrame, column: str) -> str:
    """Describe unknown values; a long one may be a company's text and is not shown."""
    value = F.when(F.length("split_value") > _MAX_SHOWN_CHARACTERS, "a long text").otherwise(F.col("split_value"))
    counts = rows.where(F.col("split").isNull()).groupBy(value.alias("value")).count()
    found = counts.orderBy(F.desc("count"), "value").limit(_MAX_SHOWN).collect()
    shown = ", ".join(f"{row['value']!r} ({row['count']} rows)" for row in found)
    return f"split.column {column!r} must contain train, dev or test only, has among others: {shown}"


def _choose_labels(kept: DataFrame, config: LabelsConfig) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the labels to learn, in alphabetical order, and the dropped ones, with their companies by split."""
    counts = [F.count_if(F.col("split") == split).alias(split) for split in SPLITS]
    exploded = kept.select("split", F.explode("labels").alias("name"))
    found = [row.asDict() for row in exploded.groupBy("name").agg(*counts).orderBy("name").collect()]
    return choose_labels(found, config)


def _fingerprint(data: DataFrame, template: str, names: list[str]) -> str:
    """Return a hash of all rows, in any order, of the labels and the template."""
    row = F.sha2(F.to_json(F.struct("key", "text_hash", "labels", "split")), 256)
    # Sums of parts of each row's hash do not depend on the order of rows.
    parts = [F.conv(F.substring(row, start, 15), 16, 10).cast("decimal(38, 0)") for start in (1, 16, 31, 46)]
    [sums] = data.agg(*map(F.sum, parts)).collect()
    return hashlib.sha256(json.dumps([FORMAT_VERSION, template, names, *map(str, sums)]).encode()).hexdigest()
