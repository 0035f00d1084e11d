"""Names, columns and types of our tables, each in one place; a comment says what one element is."""

from __future__ import annotations

from pyspark.sql import types as T

_STRING, _INT, _LONG = T.StringType(), T.IntegerType(), T.LongType()
_FLOAT, _DOUBLE, _TIMESTAMP = T.FloatType(), T.DoubleType(), T.TimestampType()


def _table(*columns: tuple[str, T.DataType, str]) -> T.StructType:
    """A schema of (name, type, what one element is)."""
    return T.StructType([T.StructField(name, kind, metadata={"comment": what}) for name, kind, what in columns])


MODELS = _table(
    ("model_id", _STRING, "content hash of the artifact; names the model everywhere"),
    ("name", _STRING, "name given at registration"),
    ("location", _STRING, "folder that holds the artifact"),
    ("backbone", _STRING, "frozen language model, as hf:, path: or pypi:; null: none, TF-IDF"),
    ("backbone_hash", _STRING, "content hash of the backbone; null where there is none"),
    ("template", _STRING, "how a text is made of a company's columns"),
    ("labels", T.ArrayType(_STRING), "label names in the order of the logits"),
    ("metrics", _STRING, "what training measured, as JSON"),
    ("extract_fingerprint", _STRING, "hash of the training extract"),
    ("extract_source", _STRING, "table that the extract was made from"),
    ("extract_version", _LONG, "version of that table"),
    ("format_version", _INT, "format of the artifact"),
    ("created", _TIMESTAMP, "end of training"),
    ("registered", _TIMESTAMP, "registration"),
    ("logits_id", _STRING, "content hash that models share which give a text the same logits"),
)

LABELS = _table(
    ("model_id", _STRING, "model that the label belongs to"),
    ("position", _INT, "index of the label in logits and probabilities, from 0"),
    ("name", _STRING, "label as the taxonomy spells it"),
    ("threshold", _FLOAT, "probability from which the label is assigned"),
    ("scale", _DOUBLE, "calibration: probability = sigmoid(scale * logit + offset); isotonic bends the sum"),
    ("offset", _DOUBLE, "calibration: see scale"),
    ("training_positives", _LONG, "training companies that carry the label"),
    ("dev_f1", _DOUBLE, "F1 on the dev split; null if not measured"),
    ("dev_ap", _DOUBLE, "average precision on the dev split; null if not measured"),
)

_RULE = _table(
    ("rule", _STRING, "name of the rule"),
    ("passed", T.BooleanType(), "whether it lets the challenger through"),
    ("value", _DOUBLE, "what was found; null if not measured"),
    ("limit", _DOUBLE, "what it was held against"),
    ("message", _STRING, "both in a sentence"),
)

ALIASES = _table(
    ("alias", _STRING, "pointer, for instance champion; its newest row counts"),
    ("model_id", _STRING, "model that it points to from now on"),
    ("previous", _STRING, "model that it pointed to before; null for the first"),
    ("move", _STRING, "promote or rollback"),
    ("at", _TIMESTAMP, "moment of the move; strictly increasing within an alias"),
    ("who", _STRING, "person or job that moved it"),
    ("why", _STRING, "reason given"),
    ("gate", _STRING, "first, passed, or forced with the rules that were broken; null for a rollback"),
    ("evaluation_id", _STRING, "comparison that the gate was applied to; null where there was none"),
    ("rules", T.ArrayType(_RULE), "what each rule of the gate said at the move; null where none was asked"),
)

_DIFFERENCE = _table(
    ("figure", _STRING, "macro_f1 or map over all labels; f1 or ap of one"),
    ("label", _STRING, "null for all labels"),
    ("positives", _LONG, "companies with the label; over all labels their sum"),
    ("champion", _DOUBLE, "value of the champion; null if undefined"),
    ("challenger", _DOUBLE, "value of the challenger"),
    ("difference", _DOUBLE, "challenger minus champion"),
    ("low", _DOUBLE, "lower end of its interval"),
    ("high", _DOUBLE, "upper end of its interval"),
)

EVALUATIONS = _table(
    ("evaluation_id", _STRING, "comparison of two models, or figures of one where there was no champion"),
    ("at", _TIMESTAMP, "moment of writing; the first of a pair counts"),
    ("who", _STRING, "person or job that compared"),
    ("alias", _STRING, "pointer that named the champion"),
    ("champion_id", _STRING, "model in use; null if there was none"),
    ("challenger_id", _STRING, "model that was judged"),
    ("extract_fingerprint", _STRING, "hash of the extract whose rows judged"),
    ("split", _STRING, "dev or test"),
    ("n_rows", _LONG, "rows that judged"),
    ("left_out", T.MapType(_STRING, _LONG), "rows that did not, by the reason"),
    ("held_out", T.BooleanType(), "whether the challenger is known not to have learned from them"),
    ("labels", T.ArrayType(_STRING), "labels that were judged: both models and the extract have them"),
    ("unjudged", T.ArrayType(_STRING), "labels of both models that the extract lacks"),
    ("only_champion", T.ArrayType(_STRING), "labels that the challenger lacks"),
    ("only_challenger", T.ArrayType(_STRING), "labels that the champion lacks"),
    ("champion", T.MapType(_STRING, _DOUBLE), "figures of the champion"),
    ("challenger", T.MapType(_STRING, _DOUBLE), "figures of the challenger"),
    ("resamples", _LONG, "samples of the bootstrap"),
    ("confidence", _DOUBLE, "confidence of the intervals"),
    ("differences", T.ArrayType(_DIFFERENCE), "challenger minus champion, over all labels and of each"),
    ("rules", T.ArrayType(_RULE), "what each rule of the gate said"),
    ("passed", T.BooleanType(), "whether all rules let the challenger through; null if there was no champion"),
)

SCORES = _table(
    ("key", _STRING, "company"),
    ("model_id", _STRING, "model that scored"),
    ("text_hash", _STRING, "hash of the text that was scored; null where there is none"),
    ("status", _STRING, "ok, truncated (too long, so not all of it was read), empty (no text) or error"),
    ("n_tokens", _INT, "tokens of the text that were read"),
    ("n_truncated", _INT, "tokens that were cut off"),
    ("error", _STRING, "why there is no score; never holds the text"),
    ("logits", T.ArrayType(_FLOAT), "one raw score a label, in the model's order"),
    ("probabilities", T.ArrayType(_FLOAT), "one calibrated probability a label, in the model's order"),
    ("labels", T.ArrayType(_STRING), "labels whose probability is at or over their threshold, corrections applied"),
    ("source_id", _STRING, "identity of the source table"),
    ("source_version", _LONG, "source version in which the text was read"),
    ("run_id", _STRING, "run that wrote the row"),
    ("scored_at", _TIMESTAMP, "begin of the run that wrote it"),
    ("removed_in", _LONG, "source version in which the company was found gone; null while it is there"),
    (
        "corrected",
        T.ArrayType(T.StructType([T.StructField("label", _STRING), T.StructField("is_true", T.BooleanType())])),
        "labels of the model that analysts corrected, and whether the company has them; labels holds those that it has",
    ),
    ("language", _STRING, "language of the text, roughly; other: not told; null: no text, or not looked at yet"),
)

SCORE_STAGING = _table(
    ("model_id", _STRING, "model that scored"),
    ("text_hash", _STRING, "hash of the text that was scored"),
    ("status", _STRING, "ok, truncated, empty or error"),
    ("n_tokens", _INT, "tokens of the text that were read"),
    ("n_truncated", _INT, "tokens that were cut off"),
    ("error", _STRING, "why there is no score; never holds the text"),
    ("logits", T.ArrayType(_FLOAT), "one raw score a label, in the model's order"),
    ("batch_positions", _INT, "text positions that the row took in its batch, padding included"),
    ("run_id", _STRING, "run that scored"),
    ("staged_at", _TIMESTAMP, "moment of scoring"),
)

SCORE_CHANGES = _table(
    ("run_id", _STRING, "run that found the change"),
    ("model_id", _STRING, "model of the new score"),
    ("previous_model_id", _STRING, "model that was compared with; of a new company too"),
    ("key", _STRING, "company"),
    ("label", _STRING, "label entered or left"),
    ("entered", T.BooleanType(), "true: the company has the label now; false: it lost it"),
    ("old_probability", _FLOAT, "null if there was no score"),
    ("new_probability", _FLOAT, "null if there is no score any more"),
    ("old_threshold", _FLOAT, "null if the label was not known"),
    ("new_threshold", _FLOAT, "null if the label is not known any more"),
    ("reason", _STRING, "text, model, threshold (same logits, judged otherwise), correction, new or removed"),
    ("source_id", _STRING, "identity of the source table"),
    ("source_version", _LONG, "source version in which the change was seen"),
    ("changed_at", _TIMESTAMP, "begin of the run that wrote it"),
)

RUNS = _table(
    ("run_id", _STRING, "run"),
    ("command", _STRING, "command, for instance score"),
    ("config", _STRING, "configuration as JSON"),
    ("source_id", _STRING, "identity of the source table"),
    ("source_name", _STRING, "name or path of the source table"),
    ("source_version", _LONG, "source version that was read"),
    (
        "source_fingerprint",
        _STRING,
        "Delta's own id of the table, hash of the files of a Parquet folder, null of a view",
    ),
    ("text_id", _STRING, "hash of template and column names: what a text is made of"),
    ("model_id", _STRING, "model"),
    ("alias", _STRING, "alias that chose the model; null if it was named by id"),
    ("counts", T.MapType(_STRING, _LONG), "companies by status"),
    ("skipped", _LONG, "companies left as they were"),
    ("reused", _LONG, "companies whose text had a score already"),
    ("tokens", _LONG, "tokens read by the model"),
    ("padding", _DOUBLE, "share of the model's text positions that were padding, 0 to 1"),
    ("rows_per_second", _DOUBLE, "texts scored per second of scoring"),
    ("started", _TIMESTAMP, "begin"),
    ("ended", _TIMESTAMP, "end"),
    ("outcome", _STRING, "done, nothing_to_do, superseded, skipped, failed or estimated"),
    ("error", _STRING, "why it failed or was skipped; null otherwise"),
    (
        "dtype",
        _STRING,
        "arithmetic of the backbone, float32 or bfloat16; null without a backbone, or where nothing written has a text",
    ),
    (
        "estimated_seconds",
        _DOUBLE,
        "what ptec estimate says, or said of this night; null if it was not asked",
    ),
    ("corrections_version", _LONG, "version of the table corrections that was applied; null if there may be more"),
    ("drifted", T.ArrayType(_STRING), "what drifted over its limit, the farthest first; null if that was not measured"),
    ("retrain", T.BooleanType(), "whether drift says that it is time to train again; null if it was not measured"),
)

DRIFT = _table(
    ("run_id", _STRING, "run after which it was measured"),
    ("model_id", _STRING, "model"),
    ("population", _STRING, "all: companies that stand; fresh: new or with another text, where these are the fewer"),
    ("figure", _STRING, "probability, mix (of labels), tokens (of a text), labels (of a company), language or status"),
    ("label", _STRING, "label, where the figure is probability; else null"),
    ("companies", _LONG, "companies that were counted"),
    ("mean", _DOUBLE, "mean of the figure, of mix labels a company; null for language and status"),
    ("share", _DOUBLE, "of probability: share of the companies at or over the threshold; else null"),
    ("counts", T.MapType(_STRING, _LONG), "companies by category, label of a mix, or least value of a bin"),
    ("psi_training", _DOUBLE, "population stability index against the training extract; null: not compared"),
    ("chance_training", _DOUBLE, "what chance alone may make it; the limit where it is greater"),
    ("psi_nights", _DOUBLE, "the same against the nights before; null: not compared"),
    ("chance_nights", _DOUBLE, "what chance alone may make it; the limit where it is greater"),
    ("violated", T.ArrayType(_STRING), "references from which it is farther than it may be: training, nights"),
    ("corrected", _LONG, "of probability: companies of which an analyst said whether they have the label"),
    ("corrected_true", _LONG, "those of them that have it"),
    ("corrected_expected", _DOUBLE, "sum of their probabilities; calibrated ones come near corrected_true"),
    ("measured_at", _TIMESTAMP, "begin of the run"),
)

HOLDS = _table(
    ("model_id", _STRING, "model whose scores are being written, or alias and its name"),
    ("run_id", _STRING, "run at work"),
    ("holder", _STRING, "what tells its process, and its place there, from all others"),
    ("since", _TIMESTAMP, "begin"),
    ("until", _TIMESTAMP, "moment at which the hold ends unless it is kept up"),
)

CORRECTIONS = _table(
    ("key", _STRING, "company"),
    ("label", _STRING, "label as the taxonomy spells it"),
    ("is_true", T.BooleanType(), "true: the company has the label; false: it has not"),
    ("who", _STRING, "person who says so"),
    ("at", _TIMESTAMP, "moment of writing; the newest row of a company and label counts"),
    ("why", _STRING, "reason given; may be null"),
)

SCHEMAS: dict[str, T.StructType] = {
    "models": MODELS,
    "labels": LABELS,
    "aliases": ALIASES,
    "evaluations": EVALUATIONS,
    "scores": SCORES,
    "score_staging": SCORE_STAGING,
    "score_changes": SCORE_CHANGES,
    "runs": RUNS,
    "drift": DRIFT,
    "corrections": CORRECTIONS,
    "holds": HOLDS,
}

PARTITIONED_BY: dict[str, tuple[str, ...]] = {table: ("model_id",) for table in ("scores", "score_staging", "holds")}
"""So that runs of other models are not in each other's way."""

ADDED: dict[str, tuple[str, ...]] = {
    "scores": ("corrected", "language"),
    "runs": ("dtype", "estimated_seconds", "corrections_version", "drifted", "retrain"),
}
"""Columns that tables of earlier releases lack, and get; null, which they may hold, stands in rows that are there."""


def columns_to_add(table: str, found: T.StructType) -> T.StructType:
    """Return the columns that an existing table of an earlier release lacks and is to get."""
    return T.StructType([SCHEMAS[table][name] for name in ADDED.get(table, ()) if name not in found.names])


def schema_faults(table: str, found: T.StructType) -> list[str]:
    """Compare an existing table with its schema; extra columns are fine.

    Returns:
        One sentence for each missing column and each wrong type.
    """
    types = {field.name: field.dataType.simpleString() for field in found.fields}
    faults = []
    for field in SCHEMAS[table].fields:
        wanted, kind = field.dataType.simpleString(), types.get(field.name)
        if kind is None:
            faults.append(
                f"table {table}: column {field.name} ({wanted}) is missing; add it: "
                f"ALTER TABLE {table} ADD COLUMN {field.name} {wanted}"
            )
        elif kind != wanted:
            faults.append(
                f"table {table}: column {field.name} must be {wanted}, was {kind}; "
                "move the table away, or set warehouse.database to another name"
            )
    return faults
