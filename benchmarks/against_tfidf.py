"""Compare an artifact with TF-IDF and logistic regression on the dev rows of one extract.

    python benchmarks/against_tfidf.py extracts/startups artifacts/startups

Both see the same texts and go the same way: fitted on train, a common threshold from tune, and where the
artifact was trained once more on train and tune together, so is the baseline. Its threshold is on the
probability of a balanced logistic regression. Prints both methods' macro-F1 and mAP on dev and the paired
bootstrap of their differences, as JSON.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_union

from ptec_udf.engine.scorer import Scorer
from ptec_udf.model.artifact import Artifact, load_artifact
from ptec_udf.model.backbone import resolve
from training.calibrate import common_threshold
from training.data import hash_share
from training.extract_folder import read_extract_record, read_extract_rows
from training.metrics import macro_f1, mean_average_precision, paired_bootstrap

Split = tuple[list[str], np.ndarray]
"""Texts, and their labels as *Shape:* ``(n_rows, n_labels)``."""

_TUNE_SHARE = 0.15


def main(extract: Path, artifact: Path, resamples: Annotated[int, typer.Option(min=100)] = 1000) -> None:
    """Fit the baseline, score dev with both, print the comparison."""
    names = [label["name"] for label in read_extract_record(extract)["labels"]]
    splits = _read(extract, names)
    made = load_artifact(artifact)
    ptec = _ptec(made, splits["dev"][0])
    started = time.monotonic()
    baseline = _baseline(*splits["train"])
    threshold = common_threshold(_scores(baseline, splits["tune"][0]), splits["tune"][1])
    if "refit" in made.metrics["courses"]:
        baseline = _baseline(*_joined(splits["train"], splits["tune"]))
    dev = _scores(baseline, splits["dev"][0])
    seconds = time.monotonic() - started
    targets = splits["dev"][1]
    decisions = {"ptec": ptec[0], "tfidf": dev >= threshold}
    scores = {"ptec": ptec[1], "tfidf": dev}
    result = {
        "rows": len(targets),
        "labels": len(names),
        "tfidf_seconds": round(seconds, 1),
        "macro_f1": {name: round(macro_f1(values, targets), 4) for name, values in decisions.items()},
        "map": {name: round(mean_average_precision(values, targets), 4) for name, values in scores.items()},
        "macro_f1_difference": paired_bootstrap(macro_f1, decisions["ptec"], decisions["tfidf"], targets, n=resamples),
        "map_difference": paired_bootstrap(
            mean_average_precision, scores["ptec"], scores["tfidf"], targets, n=resamples
        ),
    }
    typer.echo(json.dumps(result, indent=1))


def _read(extract: Path, names: list[str]) -> dict[str, Split]:
    """Read texts and targets of train, tune and dev, parted as ``ptec train`` parts them."""
    table = read_extract_rows(extract, ["text", "text_hash", "labels", "split"])
    rows = [row for row in table.to_pylist() if row["labels"] is not None]
    splits: dict[str, tuple[list[str], list[list[bool]]]] = {
        name: ([], []) for name in ("train", "tune", "dev", "test")
    }
    for row in rows:
        in_tune = row["split"] == "train" and hash_share(row["text_hash"]) < _TUNE_SHARE
        texts, targets = splits["tune" if in_tune else row["split"]]
        texts.append(row["text"])
        targets.append([name in row["labels"] for name in names])
    return {name: (texts, np.array(targets)) for name, (texts, targets) in splits.items()}


def _joined(first: Split, second: Split) -> Split:
    return first[0] + second[0], np.concatenate([first[1], second[1]])


def _ptec(artifact: Artifact, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return decisions and logits of an artifact, each *Shape:* ``(n_rows, n_labels)``."""
    backbone, tokenizer = resolve(artifact.manifest.backbone.name).load()
    scored = Scorer.from_artifact(artifact, backbone, tokenizer).score(texts)
    logits = np.stack([result.logits for result in scored if result.logits is not None])
    return logits >= artifact.manifest.threshold_logit, logits


def _baseline(texts: list[str], targets: np.ndarray) -> Any:
    """Fit words 1-2 and characters 2-5 with one balanced logistic regression a label."""
    features = make_union(
        TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2),
        TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5), min_df=3),
    )
    regression = LogisticRegression(C=10, class_weight="balanced", max_iter=300, solver="liblinear")
    model = Pipeline([("features", features), ("labels", OneVsRestClassifier(regression))])
    return model.fit(texts, targets)


def _scores(model: Any, texts: list[str]) -> np.ndarray:
    return np.asarray(model.predict_proba(texts))


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
