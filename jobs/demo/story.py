"""The parts of the demo's story: the model, a company, a run, moves and a correction."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ptec_udf.scoring import PtecModel
from ptec_udf.warehouse.duck import connect

WIDTH = 100
REASONS = {
    "text": "its text changed",
    "model": "another model",
    "threshold": "another threshold",
    "correction": "corrected by an analyst",
    "new": "a new company",
    "removed": "it is no longer in the source",
}
_INDENT = " " * 16
_N_SHOWN = 3


def of_training(trained: dict[str, Any], companies: Sequence[dict[str, Any]]) -> str:
    """Describe the training."""
    n_train = sum(one["split"] == "train" for one in companies)
    measured = (
        f"mean average precision {trained['map']:.2f} on {sum(one['split'] == 'dev' for one in companies)} others"
    )
    return _line("a Train", f"{n_train} companies, {trained['labels']} labels, {trained['seconds']:.0f} s; {measured}")


def unseen_company(artifact: Path, companies: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Score the first company outside training with exactly two labels; return its text, labels and probabilities."""
    model = PtecModel.load(str(artifact))
    company = next(one for one in companies if one["split"] == "dev" and len(one["industries"] or ()) == 2)
    return {
        "name": company["name"],
        "text": company["description"],
        "truth": [name for name in company["industries"] if name in model.labels],
        **_highest(model, pd.DataFrame([company])),
    }


def of_company(found: dict[str, Any]) -> str:
    """Show a company's text, its labels with probabilities, and the truth."""
    text = textwrap.wrap(f"{found['name']}: {found['text']}", WIDTH - len(_INDENT))
    shown = [*text[:3], *(["..."] if len(text) > 3 else [])]
    lines = [_line("b Unseen", shown[0]), *(_INDENT + line for line in shown[1:])]
    lines += [f"{_INDENT}model: {', '.join(found['labels']) or 'no label'} ({_named(found)})"]
    lines += [f"{_INDENT}truth: {', '.join(found['truth'])}"]
    return "\n".join(lines)


def of_run(name: str, run: dict[str, Any]) -> str:
    """Describe a run by its numbers."""
    n_scored = sum((run["counts"] or {}).values())
    head = "c " if name.startswith("First") else "  "
    if run["outcome"] == "nothing_to_do":
        return _line(head + name, f"nothing to do, {run['seconds']:.0f} s")
    skipped = f"; {run['skipped']} unchanged" if run["skipped"] else ""
    return _line(head + name, f"{n_scored} companies scored in {run['seconds']:.0f} s{skipped}")


def moves(warehouse: Path) -> list[dict[str, Any]]:
    """Return companies that left one label and entered another one, with the reason."""
    return _rows(
        warehouse,
        """
        SELECT w.key, any_value(c.name) AS name, w.reason,
          list(w.label ORDER BY w.label) FILTER (NOT w.entered) AS left_labels,
          list(w.label ORDER BY w.label) FILTER (w.entered) AS entered_labels
        FROM why_changed AS w JOIN companies AS c ON c.company_id = w.key
        WHERE w.reason NOT IN ('new', 'correction') GROUP BY w.key, w.reason
        ORDER BY left_labels IS NULL, entered_labels IS NULL, w.key LIMIT ?
        """,
        [_N_SHOWN],
    )


def of_moves(moved: Sequence[dict[str, Any]]) -> str:
    """Say which companies moved, and why."""
    lines: list[str] = []
    for one in moved:
        parts = [f"left {', '.join(one['left_labels'])}"] if one["left_labels"] else []
        parts += [f"entered {', '.join(one['entered_labels'])}"] if one["entered_labels"] else []
        lines.append(_line("" if lines else "d Moved", f"{one['name']} {', '.join(parts)}: {REASONS[one['reason']]}"))
    return "\n".join(lines) or _line("d Moved", "no company moved")


def choose_correction(warehouse: Path) -> dict[str, Any]:
    """Return the least certain company of the largest screen, which an analyst would read first."""
    return _rows(
        warehouse,
        """
        SELECT s.key, c.name, s.label, s.probability FROM label_scores AS s JOIN companies AS c ON c.company_id = s.key
        WHERE s.has_label AND s.label = (
          SELECT label FROM label_scores WHERE has_label GROUP BY label ORDER BY count(*) DESC, label LIMIT 1
        ) ORDER BY s.probability, s.key LIMIT 1
        """,
        [],
    )[0]


def screen_sizes(warehouse: Path, correction: dict[str, Any]) -> dict[str, Any]:
    """Return how many companies the screen of the corrected label has now, and the reason of the move."""
    return _rows(
        warehouse,
        """
        SELECT (SELECT count(*) FROM label_scores WHERE has_label AND label = $label) AS n_companies,
          (SELECT max_by(reason, changed_at) FROM why_changed WHERE key = $key AND label = $label) AS reason
        """,
        {"label": correction["label"], "key": correction["key"]},
    )[0]


def of_correction(found: dict[str, Any]) -> str:
    """Describe a correction and what it changed."""
    name, label, probability = found["name"], found["label"], found["probability"]
    decision = f"before the second run an analyst read {name}: not {label} (model: {probability:.2f})"
    after = f"after it the screen has {found['n_companies']} companies; reason: {REASONS[found['reason']]}"
    return f"{_line('e Correct', decision)}\n{_INDENT}{after}"


def of_end(folder: str, label: str) -> str:
    """Name the report, and the next command of each role."""
    query = f"SELECT * FROM screen({_literal(label)}, NULL)"
    return "\n".join(
        [
            _line("f Report", f"{folder}/report.html"),
            _line("g Next", f"cd {folder}"),
            _line("  analyst", f'ptec sql "{query}"'),
            _line("  engineer", "ptec estimate"),
            _line("  ML", "ptec train --out longer --set train.stopping.epochs=6"),
        ]
    )


def score_text(artifact: Path, text: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """Score one text, show it, and return its labels and highest probabilities."""
    found = {"text": text, **_highest(PtecModel.load(str(artifact)), [text])}
    tell(f"{_line('Your text', _named(found))}\n{_INDENT}labels: {', '.join(found['labels']) or 'none'}")
    return found


def _highest(model: PtecModel, texts: Any) -> dict[str, Any]:
    row = model.predict_table(texts).iloc[0]
    names = sorted(model.labels, key=lambda name: -row[name])[:_N_SHOWN]
    return {"labels": list(row["labels"]), "probabilities": {name: float(row[name]) for name in names}}


def _named(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in found["probabilities"].items())


def _rows(warehouse: Path, query: str, parameters: Any) -> list[dict[str, Any]]:
    found = connect(warehouse).execute(query, parameters)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _line(head: str, text: str) -> str:
    return f"{head:<{len(_INDENT)}}{text}"
