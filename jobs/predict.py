"""``ptec predict`` and ``ptec train --csv``: models and files, without a warehouse."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from ptec_jobs.files import check_writable, read_lines, read_table, write_table
from ptec_jobs.site import Site
from ptec_udf.errors import ConfigError, SourceError, did_you_mean
from ptec_udf.log import logger
from ptec_udf.scoring import PtecModel
from ptec_udf.text.template import parse_template

_N_HIGHEST = 3


def predict(name: str, file: Path | None, out: Path | None, text_column: str | None, limit: int) -> dict[str, Any]:
    """Score a file, or the lines of standard input; return the first rows, or write all of them to ``out``.

    Raises a UserError for a model or file that cannot be used.
    """
    if out is not None:
        check_writable(out)
    model = PtecModel.load(name)
    if file is None or str(file) == "-":
        texts: Any = read_lines()
        kept = pd.DataFrame({"line": range(1, len(texts) + 1)})
    else:
        frame = read_table(file)
        fields = _fields(model, frame, text_column)
        texts = frame[text_column].tolist() if text_column else frame
        kept = frame.drop(columns=fields)
    found = model.predict_table(texts).reset_index(drop=True)
    if out is None:
        if len(found) > limit:
            logger.info(f"only the first {limit} rows are shown; --out FILE.csv writes all")
        return {"rows": [_row(*pair) for pair in zip(_dicts(kept[:limit]), _dicts(found[:limit]), strict=True)]}
    write_table(_output(kept, found), out)
    return {"out": str(out), "model_id": model.model_id, "rows_by_status": found["status"].value_counts().to_dict()}


def train_file(site: Site, file: Path, text_columns: str | None, labels: dict[str, Any], key: str | None) -> Any:
    """Train from a file as ``ptec train`` does from an extract; return its result."""
    from ptec_training.classifier import default_template
    from ptec_training.data.config import LabelsConfig, SplitConfig
    from ptec_training.data.frame import extract_frame
    from ptec_training.train import train

    if not text_columns or not labels["column"]:
        raise ConfigError("--csv needs --text-columns and --labels-column, such as: --text-columns name,description")
    columns = [column.strip() for column in text_columns.split(",")]
    out = Path(site.value("train.out") or "artifact").absolute()
    folder = out.with_name(f".{out.name}.extract")
    config = site.override({"train.out": out, "train.extract": folder}).section("train")
    try:
        extract_frame(
            read_table(file),
            folder,
            name=file.name,
            template=default_template(columns),
            labels=LabelsConfig(**labels),
            split=SplitConfig(),
            key=key,
        )
        return train(config)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a rerun writes the same extract, and training resumes


def _fields(model: PtecModel, frame: pd.DataFrame, text_column: str | None) -> list[str]:
    """Return the columns that become texts; raise SourceError for columns that are not in the file."""
    wanted = [text_column] if text_column else list(parse_template(model.template).fields)
    known = list(map(str, frame.columns))
    remedy = f"the columns are {', '.join(map(repr, known))}; --text-column names one with whole texts"
    if missing := [name for name in wanted if name not in known]:
        raise SourceError([f"the file has no column {name!r}; {did_you_mean(name, known, remedy)}" for name in missing])
    return wanted


def _dicts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.to_dict("records")  # type: ignore[return-value]


def _row(kept: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Return a row to print: its status, its labels and the labels with the highest probabilities."""
    facts = ("status", "labels", "n_tokens", "n_truncated", "error")
    probabilities = {name: value for name, value in found.items() if name not in facts and value == value}
    highest = sorted(probabilities, key=lambda name: -probabilities[name])[:_N_HIGHEST]
    return {
        **kept,
        "status": found["status"],
        "labels": found["labels"],
        "highest": {name: round(probabilities[name], 4) for name in highest},
    }


def _output(kept: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of the file that are not text, then the results; labels are joined by a semicolon."""
    found = found.assign(labels=["; ".join(names) for names in found["labels"]])
    return pd.concat([kept, found.rename(columns={name: f"{name} (PTEC)" for name in kept.columns})], axis=1)
