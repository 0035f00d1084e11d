"""Take a training extract from a warehouse table: text, labels and split of every usable company.

Four Spark actions: count the rows, count the labels, write the data, take the fingerprint; the marked
rows are cached, so the source is read once. Every row read gets one fate, and all fates are counted.
Analysts' corrections are applied to the rows that are kept, before labels are counted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql import window as W

from ptec_udf.errors import ConfigError, SourceError, did_you_mean
from ptec_udf.text.columns import clean, missing_columns, quoted, text_column, text_hash
from ptec_udf.text.template import parse_template
from ptec_udf.warehouse.tables import Warehouse
from training.data.auxiliary import choose_auxiliary, learned_columns, null_if_none
from training.data.config import ExtractConfig, LabelColumn, LabelsConfig, SplitConfig
from training.data.corrections import corrected
from training.data.folder import FORMAT_VERSION, check_out, publishing

if TYPE_CHECKING:
    from ptec_udf.warehouse.source import PinnedSource

SPLITS = ("train", "dev", "test")
_LABELS = (T.StringType, T.CharType, T.VarcharType, T.NumericType, T.BooleanType, T.DateType, T.NullType)
COLUMNS = ("key", "text", "text_hash", "labels", "split")
KEPT, NULL_KEY, WITHOUT_TEXT, DUPLICATE_KEY, CROSS_SPLIT = "kept", "null_key", "without_text", "duplicate_key", "cross"
_MOST_NAMED = 10
_LONGEST_NAMED = 40


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
        SourceError: if columns are missing or of a wrong type, a split value is unknown, no label (or no
            auxiliary one, where they are wanted) has enough training companies, or no row is left to train on.
    """
    check_out(config.out, config.overwrite)
    marked = _fated(_selected(source.read(spark), config), config.split).persist()
    try:
        record = _record(config, source) | {"counts": _counts(marked, config.split)}
        if not config.corrections:
            return _publish(marked, config, record | {"corrections": None})
        warehouse = Warehouse(spark, config.warehouse.database)
        with corrected(marked, warehouse, is_kept=F.col("fate") == KEPT) as (rows, corrections):
            return _publish(rows, config, record | {"corrections": corrections})
    finally:
        marked.unpersist()


def _publish(marked: DataFrame, config: ExtractConfig, record: dict[str, Any]) -> dict[str, Any]:
    """Choose the labels, write the rows, and complete and write their record."""
    labels, dropped = _choose_labels(_positives(marked, "labels"), config.labels)
    learned = {"labels": labels}
    if config.labels.auxiliary is not None:
        learned["auxiliary"] = choose_auxiliary(_positives(marked, "auxiliary"), config.labels.auxiliary)
    data = _final(marked, {column: [label["name"] for label in those] for column, those in learned.items()})
    record = record | learned | {"dropped_labels": dropped}
    record["fingerprint"] = _fingerprint(data, record)
    with publishing(config.out, config.overwrite) as place:
        data.write.parquet(place.data_uri)
        place.write_record(record)
    return record


def _selected(df: DataFrame, config: ExtractConfig) -> DataFrame:
    """The extract's columns of every source row; ``split_value`` as the source has it."""
    template = parse_template(config.template)
    wanted = {"source.key": config.source.key, "labels.column": config.labels.column}
    wanted |= {"split.column": config.split.column} if config.split.column else {}
    auxiliary = config.labels.auxiliary
    wanted |= {"labels.auxiliary.column": auxiliary.column} if auxiliary else {}
    if faults := missing_columns(df.columns, wanted | {name: name for name in template.fields}):
        raise SourceError(faults)
    value = quoted(config.split.column).cast("string") if config.split.column else F.lit(None).cast("string")
    key = quoted(config.source.key).cast("string")
    selected = df.select(
        key.alias("key"),
        F.when(key.isNotNull(), text_column(df.schema, template)).alias("text"),
        _labels(df.schema, config.labels, "labels").alias("labels"),
        *([null_if_none(_labels(df.schema, auxiliary, "labels.auxiliary")).alias("auxiliary")] if auxiliary else []),
        value.alias("split_value"),
    )
    return selected.withColumn("text_hash", text_hash("text"))


def _labels(schema: T.StructType, config: LabelColumn, place: str) -> Column:
    """Clean, distinct, sorted labels; null where the source is null."""
    column, dtype = quoted(config.column), schema[config.column].dataType
    if config.delimiter is not None and isinstance(dtype, T.StringType | T.CharType | T.VarcharType):
        column = F.split(column, re.escape(config.delimiter))
    elif config.delimiter is not None or not isinstance(dtype, T.ArrayType):
        rule = "an array" if config.delimiter is None else f"a string, as {place}.delimiter is set"
        raise SourceError(f"{place}.column {config.column!r} must be {rule}, was {dtype.simpleString()}")
    elif not isinstance(dtype.elementType, _LABELS):
        raise SourceError(
            f"{place}.column {config.column!r} must be an array of text, numbers, booleans or dates, was "
            f"{dtype.simpleString()}; make one in a view"
        )
    names = F.transform(column, lambda name: clean(name.cast("string")))
    return F.array_sort(F.array_distinct(F.array_compact(names)))


def _split(config: SplitConfig) -> Column:
    """Train, dev or test; null for an unknown value of the split column."""
    if config.column is not None:
        value = F.lower(clean(F.col("split_value")))
        return F.when(value.isin(*SPLITS), value)
    # 13 hexadecimal digits are 52 bits, which a double holds exactly.
    digits = F.conv(F.substring(F.sha2(F.concat(F.lit("split:"), "text"), 256), 1, 13), 16, 10)
    share = digits.cast("double") / F.lit(float(16**13))
    return F.when(share < config.test, "test").when(share < config.test + config.dev, "dev").otherwise("train")


def _fated(df: DataFrame, config: SplitConfig) -> DataFrame:
    """Add ``split``, ``fate`` and ``is_crossed`` (true on one side of a text that is in several splits)."""
    # The hash orders rows of one key; the rest makes the choice between equal texts the same each time.
    learned = map(F.asc_nulls_last, learned_columns(df))  # of equal texts the labelled one stays
    of_key = W.Window.partitionBy("key").orderBy(F.asc_nulls_last("text_hash"), "split_value", *learned)
    fate = (
        F.when(F.col("key").isNull(), NULL_KEY)
        .when(F.col("text_hash").isNull(), WITHOUT_TEXT)
        .when(F.row_number().over(of_key) > 1, DUPLICATE_KEY)
        .otherwise(KEPT)
    )
    fated = df.withColumn("split", _split(config)).withColumn("fate", fate)
    if config.column is None:
        return fated.withColumn("is_crossed", F.lit(False))
    # Rows without text would all meet in one partition: spread them by key.
    of_text = W.Window.partitionBy(F.coalesce("text_hash", "key"))
    sides = F.collect_set(F.when(F.col("fate") == KEPT, F.col("split"))).over(of_text)
    # The last name in the alphabet is train where the text is in train, so that train gives way.
    is_crossed = (F.col("fate") == KEPT) & (F.size("sides") > 1) & (F.col("split") == F.array_max("sides"))
    leaves = F.col("is_crossed") & (F.col("split") == "train")
    return (
        fated.withColumn("sides", sides)
        .withColumn("is_crossed", is_crossed)
        .drop("sides")
        .withColumn("fate", F.when(leaves, CROSS_SPLIT).otherwise(F.col("fate")))
    )


def _counts(marked: DataFrame, config: SplitConfig) -> dict[str, Any]:
    """Rows by fate and split; also checks the split column and that train has rows."""
    groups = (
        marked.groupBy("fate", "split")
        .agg(
            F.count("*").alias("rows"),
            F.count_if(F.col("labels").isNull()).alias("unlabelled"),
            F.count_distinct(F.when(F.col("is_crossed"), F.col("text_hash"))).alias("crossed_texts"),
        )
        .collect()
    )
    if config.column is not None and any(group.split is None for group in groups):
        raise SourceError(_unknown_splits(marked, config.column))
    kept = [group for group in groups if group.fate == KEPT]
    written = {split: sum(group.rows for group in kept if group.split == split) for split in SPLITS}
    counts = {
        "read": sum(group.rows for group in groups),
        "written": written,
        "unlabelled": sum(group.unlabelled for group in kept),
        "without_text": _rows(groups, WITHOUT_TEXT),
        "null_keys": _rows(groups, NULL_KEY),
        "duplicate_keys": _rows(groups, DUPLICATE_KEY),
        "cross_split_texts": sum(group.crossed_texts for group in groups),
        "cross_split_rows": _rows(groups, CROSS_SPLIT),
    }
    if not written["train"]:
        raise SourceError(f"train must have rows, had none; rows by fate: {json.dumps(counts)}")
    return counts


def _rows(groups: Sequence[Row], fate: str) -> int:
    """Number of rows with this fate."""
    return sum(group.rows for group in groups if group.fate == fate)


def _unknown_splits(marked: DataFrame, column: str) -> str:
    """Name the unknown values; where they are many or long they may be company texts, and are not shown."""
    unknown = marked.where(F.col("split").isNull()).groupBy(F.col("split_value").alias("value")).count()
    values = unknown.orderBy(F.desc("count"), "value").limit(_MOST_NAMED + 1).collect()
    if len(values) > _MOST_NAMED:
        [(n_values, n_rows)] = unknown.agg(F.count("*"), F.sum("count")).collect()
        return f"split.column {column!r} must hold train, dev or test, held {n_values} other values in {n_rows} rows"
    found = [f"{_shown(row.value)} ({row['count']} rows)" for row in values]
    return f"split.column {column!r} must hold train, dev or test, held: {', '.join(found)}"


def _shown(value: str | None) -> str:
    if value is None:
        return "null"
    return repr(value) if len(value) <= _LONGEST_NAMED else "(a long text)"


def _positives(marked: DataFrame, column: str) -> dict[str, dict[str, int]]:
    """Labelled companies of every label in a column: label -> split -> count."""
    rows = (
        marked.where((F.col("fate") == KEPT) & F.col("labels").isNotNull())
        .select("split", F.explode(column).alias("label"))
        .groupBy("label")
        .agg(*[F.count_if(F.col("split") == split).alias(split) for split in SPLITS])
        .collect()
    )
    return {row.label: {split: row[split] for split in SPLITS} for row in rows}


def _choose_labels(
    positives: dict[str, dict[str, int]], config: LabelsConfig
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Labels to learn, in alphabetical order, and those that are dropped, each with its counts."""
    excluded = {" ".join(name.split()) for name in config.exclude}
    if faults := [_not_there(name, positives) for name in sorted(excluded - set(positives))]:
        raise ConfigError(faults)
    labels: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for name in sorted(positives):
        entry: dict[str, Any] = {"name": name, **positives[name]}
        if name in excluded:
            dropped.append(entry | {"reason": "excluded"})
        elif entry["train"] < config.min_positives:
            dropped.append(entry | {"reason": "too few positives"})
        else:
            labels.append(entry)
    if not labels:
        raise SourceError(
            f"at least one label must have {config.min_positives} training companies (labels.min_positives), "
            f"of {len(positives)} labels none has; lower labels.min_positives or check labels.column"
        )
    return labels, dropped


def _not_there(name: str, positives: dict[str, dict[str, int]]) -> str:
    """Fault of an excluded label that does not occur."""
    hint = did_you_mean(name, positives, "remove it or correct its spelling")
    return f"labels.exclude: no company has the label {name!r}; {hint}"


def _final(marked: DataFrame, names: Mapping[str, Sequence[str]]) -> DataFrame:
    """The rows that are written; of their labels those that are learned, by column."""
    learned = {
        column: F.array_sort(F.array_intersect(column, F.array(*map(F.lit, those)))) for column, those in names.items()
    }
    return marked.where(F.col("fate") == KEPT).withColumns(learned).select(*COLUMNS, *(learned.keys() - set(COLUMNS)))


def _record(config: ExtractConfig, source: PinnedSource) -> dict[str, Any]:
    """What is known before anything is counted."""
    columns = {"key": config.source.key, "labels": config.labels.column, "split": config.split.column}
    filters = config.labels.model_dump(exclude={"column"} if config.labels.auxiliary else {"column", "auxiliary"})
    return {
        "format_version": FORMAT_VERSION,
        "name": source.name,
        "source_id": source.source_id,
        "version": source.version,
        "template": config.template,
        "columns": columns,
        "filters": filters | config.split.model_dump(exclude={"column"}),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _fingerprint(data: DataFrame, record: dict[str, Any]) -> str:
    """SHA-256 over all rows but not their order, the labels and the template.

    Rows are hashed in 256 groups, so that no group outgrows what one Spark value can hold.
    """
    row = F.sha2(F.to_json(F.struct("key", "text_hash", *learned_columns(data), "split")), 256)
    group = F.sha2(F.array_join(F.array_sort(F.collect_list("row")), ""), 256)
    groups = (
        data.select(row.alias("row"))
        .groupBy(F.substring("row", 1, 2).alias("start"))
        .agg(group.alias("hash"))
        .collect()
    )
    names = [[label["name"] for label in record[column]] for column in learned_columns(data)]
    parts = [FORMAT_VERSION, record["template"], *names, sorted((row.start, row.hash) for row in groups)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
