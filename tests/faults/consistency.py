"""What must be true of the tables after any runs, in any order, killed or at the same time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.tiny import TEMPLATE

Rows = list[dict[str, Any]]
Source = Mapping[str, tuple[str, str]]
"""Name and about by key."""


def find_anomalies(tables: Mapping[str, Rows], model_id: str, sources: Mapping[int, Source]) -> list[str]:
    """List what is wrong with a model's scores and changes; nothing in consistent tables.

    Args:
        tables: rows of scores, score_changes and runs.
        model_id: a model.
        sources: the source's companies by version.
    """
    scores = [row for row in tables["scores"] if row["model_id"] == model_id]
    done = [row for row in tables["runs"] if row["model_id"] == model_id and row["outcome"] == "done"]
    found = [f"run {one} is done {n} times" for one, n in Counter(row["run_id"] for row in done).items() if n > 1]
    found += [f"{key} has {n} scores" for key, n in Counter(row["key"] for row in scores).items() if n > 1]
    active = {row["key"]: row for row in scores if row["removed_in"] is None}
    if done:
        source = sources[max(row["source_version"] for row in done)]
        found += [f"{key} is lost or left over" for key in sorted(active.keys() ^ source.keys())]
        for key in sorted(active.keys() & source.keys()):
            name, about = source[key]
            text = TEMPLATE.format(name=name, about=about)
            if active[key]["text_hash"] != hashlib.sha256(text.encode()).hexdigest():
                found.append(f"{key} has the score of another text")
    logits: dict[str, list[float]] = {}
    for row in scores:
        if row["logits"] is not None and logits.setdefault(row["text_hash"], row["logits"]) != row["logits"]:
            found.append(f"{row['key']}: one text has two logits")
    return found + _replayed(tables["score_changes"], done, active)


def _replayed(changes: Rows, done: Rows, active: Mapping[str, dict[str, Any]]) -> list[str]:
    """Replay the changes of runs under an alias: they must lead to the labels, each from where the last one was."""
    versions = {row["run_id"]: (row["source_version"], row["ended"]) for row in done if row["alias"]}
    labels: dict[str, set[str]] = {}
    found = []
    mine = [row for row in changes if row["run_id"] in versions]
    for row in sorted(mine, key=lambda row: versions[row["run_id"]]):
        of_company = labels.setdefault(row["key"], set())
        if row["entered"] == (row["label"] in of_company):
            found.append(f"{row['key']} enters or leaves a label twice")
        (of_company.add if row["entered"] else of_company.discard)(row["label"])
    if versions:
        for key in labels.keys() | active.keys():
            if labels.get(key, set()) != set(active[key]["labels"] if key in active else ()):
                found.append(f"{key}: its changes do not lead to its labels")
    return found
