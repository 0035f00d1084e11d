"""Estimate a run from numbers alone, for a table or machines that are not there yet."""

from __future__ import annotations

TOKENS_PER_CORE_SECOND = 6000.0
"""MiniLM in bfloat16 with 96 tokens, in the first run of docs/benchmarks/listed."""

_START_SECONDS = 30.0
"""Start of Spark and of the Python workers, and the commits of a run."""
_CORE_SECONDS_PER_ROW = 1.5e-3
"""Hash, comparison and MERGE of a row, also of an unchanged one, in the same runs."""


def size(
    *, rows: int, texts: int, mean_tokens: float, cores: int, rate: float, price_per_core_hour: float | None
) -> dict[str, float]:
    """Estimate a run on a table of ``rows`` companies that scores ``texts`` texts of ``mean_tokens`` tokens.

    ``rate`` is in tokens per second and core. Return ``scoring_seconds``, ``seconds``, ``core_hours``, and ``cost`` in
    the unit of the price. Cores are taken to be used fully, so a run of few texts on many cores takes longer.
    """
    scoring = texts * mean_tokens / (cores * rate)
    seconds = _START_SECONDS + rows * _CORE_SECONDS_PER_ROW / cores + scoring
    core_hours = seconds * cores / 3600
    cost = {} if price_per_core_hour is None else {"cost": core_hours * price_per_core_hour}
    return {"texts": texts, "scoring_seconds": scoring, "seconds": seconds, "core_hours": core_hours} | cost
