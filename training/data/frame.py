"""Take a training extract from a table in memory, without Spark: the extract of ``extract.py`` for files and lists.

A test compares the records and rows of both on the same companies.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from ptec_training.data.config import LabelsConfig, SplitConfig
from ptec_training.data.folder import FORMAT_VERSION, SPLITS, write_extract
from ptec_training.data.labels import choose_labels
from ptec_udf.errors import SourceError, did_you_mean
from ptec_udf.log import logger
from ptec_udf.text.render import as_plain, clean, is_null, text_hash, texts_of
from ptec_udf.text.template import parse_template

_STATUSES = ("null_key", "without_text", "duplicate_key", "text_in_dev_or_test")


def extract_frame(
    frame: pd.DataFrame,
    out: Path,
    *,
    name: str,
    template: str,
    labels: LabelsConfig,
    split: SplitConfig,
    key: str | None = None,
) -> dict[str, Any]:
    """Write the extract of a table, in place of an earlier one; return its record. May raise a UserError.

    ``key`` is the column that identifies a company; None: the row's number. A null in the label column means not
    labelled, an empty list none of the labels.
    """
    used = [labels.column, *([key] if key else []), *([split.column] if split.column else [])]
    known = list(map(str, frame.columns))
    if missing := [column for column in used if column not in known]:
        listed = f"the columns are {', '.join(map(repr, known))}"
        raise SourceError([f"the table has no column {one!r}; {did_you_mean(one, known, listed)}" for one in missing])
    keys = [str(at) for at in range(len(frame))] if key is None else [_key(value) for value in frame[key]]
    rows = pd.DataFrame({"key": keys, "text": texts_of(frame, parse_template(template))}, dtype=object)
    rows["labels"] = pd.Series([names_of(value, labels) for value in frame[labels.column]], dtype=object)
    rows["text_hash"] = [None if text is None else text_hash(text) for text in rows["text"]]
    values = [None] * len(frame) if split.column is None else list(frame[split.column])
    rows["split"] = [_split(text, value, split) for text, value in zip(rows["text"], values, strict=True)]
    kept, counts = _kept_rows(rows)
    chosen, dropped = choose_labels(_count_labels(kept), labels)
    names = [label["name"] for label in chosen]
    known_names = {*names}
    own_names = [None if own is None else [one for one in own if one in known_names] for own in kept["labels"]]
    kept = kept.assign(labels=pd.Series(own_names, dtype=object))
    fingerprint = _fingerprint(kept, template, names)
    record = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "source_id": f"{name} {fingerprint[:16]}",
        "version": 0,
        "template": template,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": {"labels": labels.model_dump(mode="json"), "split": split.model_dump(mode="json")},
        "counts": counts,
        "corrections": None,
        "labels": chosen,
        "dropped_labels": dropped,
        "fingerprint": fingerprint,
    }
    write_extract(out, True, record, lambda uri: _write_rows(Path(uri.removeprefix("file://")), kept))
    _log_left_out(counts, dropped)
    return record


def names_of(value: Any, config: LabelsConfig) -> list[str] | None:
    """Return the clean label names of a row, sorted, each once; None for a row that is not labelled."""
    value = as_plain(value)
    if isinstance(value, str):
        value = value.split(config.delimiter) if config.delimiter else [value]
    if not isinstance(value, list | tuple | set | frozenset):
        if is_null(value):
            return None
        value = [value]
    return sorted({name for one in value if not is_null(one) and (name := clean(str(one)))})


def _key(value: Any) -> str | None:
    return None if is_null(value) or str(value) == "" else str(value)


def _split(text: str | None, value: Any, config: SplitConfig) -> str:
    """Return train, dev or test, by a column or by the hash of the text."""
    if config.column is not None:
        found = "" if is_null(value) else (clean(str(value)) or "").lower()
        if found not in SPLITS:
            raise SourceError(f"split.column {config.column!r} must contain train, dev or test only")
        return found
    share = int(hashlib.sha256(f"split:{text}".encode()).hexdigest()[:13], 16) / 16**13
    return "test" if share < config.test else "dev" if share < config.test + config.dev else "train"


def _kept_rows(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows of the extract, and counts of all rows by split and status; raise SourceError without train."""
    statuses = dict.fromkeys(_STATUSES, 0)
    statuses["null_key"] = int(rows["key"].isna().sum())
    kept = rows[rows["key"].notna()]
    statuses["without_text"] = int(kept["text"].isna().sum())
    kept = kept[kept["text"].notna()]
    # As in Spark: of equal keys the row with the smallest hash stays.
    kept = kept.assign(order=[json.dumps(own) for own in kept["labels"]]).sort_values(["key", "text_hash", "order"])
    is_repeated = kept.duplicated("key")
    statuses["duplicate_key"] = int(is_repeated.sum())
    kept = kept[~is_repeated].drop(columns="order")
    is_elsewhere = (kept["split"] == "train") & kept["text_hash"].isin(kept["text_hash"][kept["split"] != "train"])
    statuses["text_in_dev_or_test"] = int(is_elsewhere.sum())
    kept = kept[~is_elsewhere].reset_index(drop=True)
    written = {split: int((kept["split"] == split).sum()) for split in SPLITS}
    counts = {"read": len(rows), "written": written, "unlabelled": int(kept["labels"].isna().sum()), **statuses}
    if not written["train"]:
        raise SourceError(f"train must have rows, had none; rows by status: {json.dumps(counts)}")
    return kept, counts


def _count_labels(kept: pd.DataFrame) -> list[dict[str, Any]]:
    found = {split: Counter(kept["labels"][kept["split"] == split].explode().dropna()) for split in SPLITS}
    names = sorted(set().union(*found.values()))
    return [{"name": name, **{split: found[split][name] for split in SPLITS}} for name in names]


def _fingerprint(kept: pd.DataFrame, template: str, names: list[str]) -> str:
    """Return the hash that ``extract.py`` computes in Spark, whose JSON leaves nulls out."""
    sums = [0, 0, 0, 0]
    for row in kept[["key", "text_hash", "labels", "split"]].to_dict("records"):
        present = {name: value for name, value in row.items() if value is not None}
        digest = hashlib.sha256(json.dumps(present, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()
        sums = [total + int(digest[at : at + 15], 16) for total, at in zip(sums, (0, 15, 30, 45), strict=True)]
    return hashlib.sha256(json.dumps([FORMAT_VERSION, template, names, *map(str, sums)]).encode()).hexdigest()


def _write_rows(folder: Path, kept: pd.DataFrame) -> None:
    folder.mkdir()
    kept[["key", "text", "text_hash", "labels", "split"]].to_parquet(folder / "part-0.parquet", index=False)


def _log_left_out(counts: dict[str, Any], dropped: list[dict[str, Any]]) -> None:
    if left_out := {status: counts[status] for status in ("unlabelled", *_STATUSES) if counts[status]}:
        logger.info(f"rows that are not learned: {left_out}")
    if dropped:
        logger.warning(f"labels that are not learned: {', '.join(one['name'] for one in dropped)}")
