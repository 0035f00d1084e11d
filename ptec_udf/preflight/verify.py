"""Verify that a text's logits do not depend on its batch, on a sample of the source; writes to no table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ptec_udf.config import EngineConfig, ScoreConfig
from ptec_udf.engine.scorer import WORKER_DIED
from ptec_udf.engine.udf import scoring_udf
from ptec_udf.errors import PtecError, SourceError
from ptec_udf.log import logger, progress
from ptec_udf.model.calibration import probabilities
from ptec_udf.model.manifest import Manifest
from ptec_udf.nightly.diff import key_column
from ptec_udf.nightly.plan import ScoringRun, check, pin_run
from ptec_udf.preflight.reference import reference_logits
from ptec_udf.text.columns import text_hash

_N_LONGEST = 4  # they are cut, or fill the largest batches
_MAX_WITHOUT_LOGITS = 0.1  # share of the sample
# float32: sums in another order differ by this.
_MAX_LOGIT, _MAX_LOGIT_SHARE = 5e-5, 1e-5
# bfloat16 keeps 8 bits of each value: limits of the probabilities' 99.9 % quantile and maximum.
_MAX_P999, _MAX_PROBABILITY = 1e-2, 5e-2

Logits = Sequence[NDArray[np.float32] | None]


@dataclass(frozen=True)
class Variant:
    """One way to batch the sample, compared with each text alone in float32: the largest differences."""

    name: str
    dtype: str
    max_logit: float
    max_probability: float
    changed_labels: int  # cells of text and label that are on the other side of the threshold
    passed: bool  # the differences are within the tolerance of the dtype


def verify(spark: SparkSession, config: ScoreConfig) -> dict[str, Any]:
    """Score a sample in several batchings on Spark's workers, and compare with each text alone.

    Return ``model_id``, ``source``, ``source_version``, ``texts`` (their number), ``passed`` and ``variants``.

    Raise UserError as ``pin_run``, or PtecError when too many texts have no reference logits.
    """
    run = pin_run(spark, config)
    check(run)
    texts = sample_texts(run)
    variants = _compare_variants(run, texts)
    facts = {"model_id": run.model_id, "source": run.source.name, "source_version": run.source.version}
    passed = all(one.passed for one in variants)
    return facts | {"texts": len(texts), "passed": passed, "variants": [asdict(one) for one in variants]}


def sample_texts(run: ScoringRun) -> list[str]:
    """Return distinct texts of the pinned source, drawn by a hash, and the longest ones; each time the same.

    Texts that ended a worker in a run are left out: they would end this process too.

    Raise SourceError for a source without a text.
    """
    choice = run.config.verify
    with_key = run.source_rows().where(key_column(run.config.source.key).isNotNull())
    texts = with_key.select(run.text().alias("text")).where(F.col("text").isNotNull())
    texts = texts.withColumn("text_hash", text_hash("text")).dropDuplicates(["text_hash"])
    killers = run.scores().where(F.col("error") == WORKER_DIED).select("text_hash")
    texts = texts.join(killers, on="text_hash", how="left_anti")
    drawn = texts.orderBy(F.xxhash64(F.lit(choice.seed), "text_hash"), "text_hash").limit(choice.rows)
    longest = texts.orderBy(F.desc(F.length("text")), "text_hash").limit(_N_LONGEST)
    rows = [*drawn.collect(), *longest.collect()]
    if not rows:
        raise SourceError(f"source {run.source.name!r} has no text to verify with; check its template columns")
    return list(dict.fromkeys(row["text"] for row in rows))


def _compare_variants(run: ScoringRun, texts: list[str]) -> list[Variant]:
    logger.info(f"{len(texts)} texts of version {run.source.version} of {run.source.name}, model {run.model_id[:12]}")
    expected = reference_logits(run.artifact, texts)
    n_without = sum(logits is None for logits in expected)
    if n_without > _MAX_WITHOUT_LOGITS * len(texts):
        raise PtecError(f"{n_without} of {len(texts)} texts have no finite logits even alone; check the model")
    dtypes = ["float32", "bfloat16"] if run.dtype == "bfloat16" else ["float32"]
    options = {
        "as configured": {},
        "each text alone": {"batch_tokens": 1},
        "large batches, shuffled": {"batch_tokens": 65_536, "window_rows": len(texts)},
    }
    found = []
    with progress("variants", len(options) * len(dtypes)) as step:
        for dtype in dtypes:
            for name, changes in options.items():
                engine = run.config.engine.model_copy(update={"dtype": dtype, **changes})
                logits = _score(run, texts, engine, is_shuffled="shuffled" in name)
                found.append(compare(name, dtype, expected, logits, run.artifact.manifest))
                step(1)
    return found


def _score(run: ScoringRun, texts: list[str], engine: EngineConfig, *, is_shuffled: bool) -> Logits:
    """Score texts by the run's UDF; in the order of the texts."""
    spark = run.warehouse.spark
    order = np.random.default_rng(0).permutation(len(texts)) if is_shuffled else range(len(texts))
    rows = [(int(at), texts[at]) for at in order]
    frame = spark.createDataFrame(rows, "at int, text string").coalesce(2 if is_shuffled else 1)
    score = scoring_udf(spark, run.artifact, engine)
    scored = frame.select("at", score("text").alias("scored")).select("at", "scored.logits").collect()
    found = {row["at"]: None if row["logits"] is None else np.array(row["logits"], np.float32) for row in scored}
    return [found.get(at) for at in range(len(texts))]


def compare(name: str, dtype: str, expected: Logits, found: Logits, manifest: Manifest) -> Variant:
    """Compare logits with the logits of each text alone, both in the order of the texts."""
    both = [(a, b) for a, b in zip(expected, found, strict=True) if a is not None and b is not None]
    is_complete = all((a is None) == (b is None) for a, b in zip(expected, found, strict=True))
    sides = [np.array(side, np.float32).reshape(-1, len(manifest.labels)) for side in zip(*both, strict=True)]
    before, after = sides or [np.zeros((0, len(manifest.labels)), np.float32)] * 2
    distance = np.abs(after.astype(np.float64) - before)
    old, new = (probabilities(side, manifest.labels) for side in (before, after))
    moved = np.abs(new.astype(np.float64) - old)
    thresholds = np.array([label.threshold for label in manifest.labels], np.float32)
    if dtype == "float32":
        is_close = bool((distance <= _MAX_LOGIT + _MAX_LOGIT_SHARE * np.abs(before)).all())
    else:  # of fewer than a thousand cells one may exceed the quantile's limit
        is_close = (moved > _MAX_P999).sum() <= max(1, moved.size // 1000) and moved.max(initial=0) <= _MAX_PROBABILITY
    return Variant(
        name=name,
        dtype=dtype,
        max_logit=float(distance.max(initial=0)),
        max_probability=float(moved.max(initial=0)),
        changed_labels=int(((old >= thresholds) != (new >= thresholds)).sum()),
        passed=bool(is_close and is_complete),
    )
