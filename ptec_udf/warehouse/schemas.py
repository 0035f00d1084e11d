"""Names, columns and types of all tables; the comment describes one value."""

from __future__ import annotations

from pyspark.sql import types as T

_STRING, _INT, _LONG = T.StringType(), T.IntegerType(), T.LongType()
_FLOAT, _DOUBLE, _TIMESTAMP = T.FloatType(), T.DoubleType(), T.TimestampType()
_CORRECTED = T.ArrayType(T.StructType([T.StructField("label", _STRING), T.StructField("is_true", T.BooleanType())]))


def _table(*columns: tuple[str, T.DataType, str]) -> T.StructType:
    return T.StructType([T.StructField(name, kind, metadata={"comment": what}) for name, kind, what in columns])


_RULE = _table(
    ("rule", _STRING, "name of the rule"),
    ("passed", T.BooleanType(), "whether it lets the challenger through"),
    ("value", _DOUBLE, "what was found; null if not measured"),
    ("limit", _DOUBLE, "limit of the rule"),
    ("message", _STRING, "both in a sentence"),
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

SCHEMAS: dict[str, T.StructType] = {
    "models": _table(
        ("model_id", _STRING, "content hash of the artifact; names the model everywhere"),
        ("name", _STRING, "name given at registration"),
        ("location", _STRING, "folder of the artifact"),
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
        ("logits_id", _STRING, "content hash; models with the same hash produce the same logits"),
    ),
    "labels": _table(
        ("model_id", _STRING, "model that the label belongs to"),
        ("position", _INT, "index of the label in logits and probabilities, from 0"),
        ("name", _STRING, "label as the taxonomy spells it"),
        ("threshold", _FLOAT, "probability from which the label is assigned"),
        ("scale", _DOUBLE, "calibration: probability = sigmoid(scale * logit + offset)"),
        ("offset", _DOUBLE, "calibration: see scale"),
        ("training_positives", _LONG, "training companies that carry the label"),
        ("dev_f1", _DOUBLE, "F1 on the dev split; null if not measured"),
        ("dev_ap", _DOUBLE, "average precision on the dev split; null if not measured"),
    ),
    "aliases": _table(
        ("alias", _STRING, "pointer, for instance champion; its newest row counts"),
        ("model_id", _STRING, "model that it points to from now on"),
        ("previous", _STRING, "model that it pointed to before; null for the first"),
        ("move", _STRING, "promote or rollback"),
        ("at", _TIMESTAMP, "moment of the move; strictly increasing within an alias"),
        ("who", _STRING, "person or job that moved it"),
        ("why", _STRING, "reason given"),
        ("gate", _STRING, "first, passed, or forced with the rules that were broken; null for a rollback"),
        ("evaluation_id", _STRING, "comparison that the gate was applied to; null where there was none"),
        ("rules", T.ArrayType(_RULE), "results of the gate's rules at the move; null without a gate"),
    ),
    "evaluations": _table(
        ("evaluation_id", _STRING, "comparison of two models, or figures of one where there was no champion"),
        ("at", _TIMESTAMP, "moment of writing; the first of a pair counts"),
        ("who", _STRING, "person or job that compared"),
        ("alias", _STRING, "pointer that named the champion"),
        ("champion_id", _STRING, "model in use; null if there was none"),
        ("challenger_id", _STRING, "model that was judged"),
        ("extract_fingerprint", _STRING, "hash of the extract whose rows judged"),
        ("split", _STRING, "dev or test"),
        ("n_rows", _LONG, "rows that judged"),
        ("left_out", T.MapType(_STRING, _LONG), "rows that did not, by the reason; learned by a model among them"),
        ("labels", T.ArrayType(_STRING), "labels that were judged: both models and the extract have them"),
        ("unjudged", T.ArrayType(_STRING), "labels of both models that the extract lacks"),
        ("only_champion", T.ArrayType(_STRING), "labels that the challenger lacks"),
        ("only_challenger", T.ArrayType(_STRING), "labels that the champion lacks"),
        ("champion", T.MapType(_STRING, _DOUBLE), "figures of the champion"),
        ("challenger", T.MapType(_STRING, _DOUBLE), "figures of the challenger"),
        ("differences", T.ArrayType(_DIFFERENCE), "challenger minus champion, over all labels and of each"),
        ("rules", T.ArrayType(_RULE), "results of the gate's rules"),
        ("passed", T.BooleanType(), "whether all rules let the challenger through; null if there was no champion"),
    ),
    "scores": _table(
        ("key", _STRING, "company"),
        ("model_id", _STRING, "model"),
        ("text_hash", _STRING, "SHA-256 of the scored text; null without a text"),
        ("status", _STRING, "ok, truncated (the text was cut), empty (no text) or error"),
        ("n_tokens", _INT, "tokens of the text that the model read"),
        ("n_truncated", _INT, "tokens that were cut off"),
        ("error", _STRING, "why there is no score; never contains the text"),
        ("logits_id", _STRING, "hash of model content, engine and dtype, which determine the logits"),
        ("logits", T.ArrayType(_FLOAT), "raw score of each label, in the model's order"),
        ("probabilities", T.ArrayType(_FLOAT), "calibrated probability of each label, in the model's order"),
        ("labels", T.ArrayType(_STRING), "labels at or over their threshold, corrections applied"),
        ("source_id", _STRING, "identity of the source"),
        ("source_version", _LONG, "source version in which the text was read; null if the source keeps no versions"),
        ("run_id", _STRING, "run that wrote the row"),
        ("scored_at", _TIMESTAMP, "start of the run that wrote the row"),
        ("removed_in", _LONG, "source version in which the company was missing; null while it is in the source"),
        ("corrected", _CORRECTED, "labels that analysts corrected, and whether the company has them"),
    ),
    "score_staging": _table(
        ("logits_id", _STRING, "hash of model content, engine and dtype, which determine the logits"),
        ("run_id", _STRING, "run that scored the text"),
        ("text_hash", _STRING, "SHA-256 of the text"),
        ("status", _STRING, "ok, truncated, empty or error"),
        ("n_tokens", _INT, "tokens of the text that the model read"),
        ("n_truncated", _INT, "tokens that were cut off"),
        ("error", _STRING, "why there is no score; never contains the text"),
        ("logits", T.ArrayType(_FLOAT), "raw score of each label, in the model's order"),
        ("batch_positions", _INT, "positions that the text took in its batch, padding included"),
        ("staged_at", _TIMESTAMP, "start of the job that scored the text"),
    ),
    "diff_staging": _table(
        ("run_id", _STRING, "run"),
        ("key", _STRING, "company that the run writes"),
        ("change_type", _STRING, "new, text, source, retry, corrected or removed"),
        ("text_hash", _STRING, "SHA-256 of the text; null without a text"),
        ("cost", _LONG, "expected tokens of the text; null without a text to score"),
        ("is_ambiguous", T.BooleanType(), "whether the source has the key with several texts"),
        ("corrected", _CORRECTED, "labels that analysts corrected, and whether the company has them"),
    ),
    "score_changes": _table(
        ("run_id", _STRING, "run that made the change"),
        ("model_id", _STRING, "model of the new score"),
        ("previous_model_id", _STRING, "model of the old score"),
        ("key", _STRING, "company"),
        ("label", _STRING, "label that the company entered or left"),
        ("entered", T.BooleanType(), "true: the company has the label now; false: it had it before"),
        ("old_probability", _FLOAT, "null without an old score"),
        ("new_probability", _FLOAT, "null without a new score"),
        ("old_threshold", _FLOAT, "null if the old model lacks the label"),
        ("new_threshold", _FLOAT, "null if the new model lacks the label"),
        ("reason", _STRING, "text, model, threshold, correction, new or removed"),
        ("source_id", _STRING, "identity of the source"),
        ("source_version", _LONG, "source version of the run"),
        ("changed_at", _TIMESTAMP, "start of the run"),
    ),
    "runs": _table(
        ("run_id", _STRING, "run: hash of model, source, version and columns, then a random part for the attempt"),
        ("config", _STRING, "configuration as JSON"),
        ("source_id", _STRING, "identity of the source"),
        ("source_name", _STRING, "name or path of the source"),
        ("source_version", _LONG, "source version that was read; null if the source keeps no versions"),
        ("table_id", _STRING, "Delta's own id of the source; it changes when the table is replaced in place"),
        ("text_id", _STRING, "hash of template, columns and key: how a text is made"),
        ("model_id", _STRING, "model"),
        ("alias", _STRING, "alias that chose the model; null if the model was named by id"),
        ("counts", T.MapType(_STRING, _LONG), "companies by status"),
        ("skipped", _LONG, "companies left unchanged"),
        ("reused", _LONG, "companies whose text had a score already, or is the text of another company"),
        ("tokens", _LONG, "tokens that the model read"),
        ("padding", _DOUBLE, "share of the model's positions that were padding, 0 to 1"),
        ("rows_per_second", _DOUBLE, "texts scored per second of scoring"),
        ("started", _TIMESTAMP, "start"),
        ("ended", _TIMESTAMP, "end; null while the run is running"),
        ("outcome", _STRING, "running, done, nothing_to_do, superseded, failed or interrupted"),
        ("error", _STRING, "why the run failed"),
        ("dtype", _STRING, "dtype of the backbone, float32 or bfloat16; null if no text was to be scored"),
        ("corrections_version", _LONG, "version of table corrections that was applied"),
        ("drifted", T.ArrayType(_STRING), "what drifted over its limit, the farthest first; null if not measured"),
        ("retrain", T.BooleanType(), "whether drift says that it is time to retrain; null if not measured"),
    ),
    "drift": _table(
        ("run_id", _STRING, "run whose scores were measured"),
        ("model_id", _STRING, "model"),
        ("population", _STRING, "all: active companies; fresh: new or with another text, if fewer than half"),
        ("figure", _STRING, "probability, mix (of labels), tokens (of a text) or status"),
        ("label", _STRING, "label of a probability; else null"),
        ("companies", _LONG, "companies that were counted"),
        ("mean", _DOUBLE, "mean of the figure; mix: labels per company; null for status"),
        ("share", _DOUBLE, "probability: share of the companies at or over the threshold; else null"),
        ("counts", T.MapType(_STRING, _LONG), "companies by status, label or lower edge of a bin"),
        ("psi_training", _DOUBLE, "population stability index against held-out training rows; null: not compared"),
        ("psi_runs", _DOUBLE, "population stability index against earlier runs; null: not compared"),
        ("violated", T.ArrayType(_STRING), "references against which a limit is exceeded: training, runs"),
        ("measured_at", _TIMESTAMP, "start of the run"),
    ),
    "corrections": _table(
        ("key", _STRING, "company"),
        ("label", _STRING, "label as the taxonomy spells it"),
        ("is_true", T.BooleanType(), "true: the company has the label; false: it has not"),
        ("who", _STRING, "person who says so"),
        ("at", _TIMESTAMP, "moment of writing; the newest row of a company and label counts"),
        ("why", _STRING, "reason given; may be null"),
    ),
}

PARTITIONED_BY: dict[str, tuple[str, ...]] = {
    "scores": ("model_id",),
    "score_staging": ("logits_id", "run_id"),
    "diff_staging": ("run_id",),
}
"""Partitions keep runs of different models out of each other's conflict checks."""


def schema_errors(table: str, found: T.StructType) -> list[str]:
    """Return an error for each column of a table that is missing or has another type; more columns are allowed."""
    types = {field.name: field.dataType.simpleString() for field in found.fields}
    return [
        f"table {table}: column {name} must be {expected}, was {types.get(name, 'missing')}; "
        "move the table away, or set warehouse.database to another name"
        for name, expected in ((field.name, field.dataType.simpleString()) for field in SCHEMAS[table].fields)
        if types.get(name) != expected
    ]
