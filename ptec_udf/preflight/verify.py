"""Equal scores whatever the batching: shown on a sample of a source, before a night or after a change of machines.

The model and the source are pinned as a night does it. Nothing is written to any table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pyspark.sql import SparkSession

from ptec_udf.config import ScoreConfig
from ptec_udf.engine.device import Dtype
from ptec_udf.engine.result import ScoredText
from ptec_udf.engine.torch_engine import load_scorer
from ptec_udf.errors import PtecError, SourceError
from ptec_udf.log import logger, progress
from ptec_udf.nightly.plan import ScoringRun, check, pin_run
from ptec_udf.nightly.reason import failures_of
from ptec_udf.preflight.arrangements import Arrangement, arrangements, score_in_driver, score_on_spark
from ptec_udf.preflight.comparison import Compared, compare
from ptec_udf.preflight.plain import score_alone
from ptec_udf.preflight.sample import sample_texts
from ptec_udf.warehouse.tables import Warehouse

# They are cut, or fill the largest batches: a sample of a few hundred may have none of them.
_LONGEST = 4
# Equal faults are no equal scores: where more than this share has none, little is shown.
_MOST_WITHOUT = 0.1


def verify(spark: SparkSession, config: ScoreConfig) -> dict[str, Any]:
    """Score a sample of the source in many arrangements and hold each against each text alone in float32.

    Returns:
        ``model_id``, ``source``, ``source_version``, ``texts`` (their number), ``without_scores`` (those of them that
        have none when they are alone), ``passed`` and ``arrangements``, a list of dictionaries as of ``Compared``.

    Raises:
        UserError: for a model, source, artifact or backbone that cannot be used, or a source without a text.
        PtecError: when Spark fails, or more than a tenth of the texts cannot be scored alone.
    """
    warehouse = Warehouse(spark, config.warehouse.database)
    warehouse.ensure()
    run = pin_run(warehouse, config)
    check(run)
    with failures_of("verify"):
        compared, without_scores = _compared(run)
    return {
        "model_id": run.artifact.model_id,
        "source": run.source.name,
        "source_version": run.source.version,
        "texts": compared[0].rows,
        "without_scores": without_scores,
        "passed": all(one.passed for one in compared),
        "arrangements": [one.to_dict() for one in compared],
    }


def _compared(run: ScoringRun) -> tuple[list[Compared], int]:
    """Score the sample alone and in all arrangements; count the texts that have no scores when they are alone."""
    choice = run.config.verify
    texts = sample_texts(run, rows=choice.rows, seed=choice.seed, longest=_LONGEST)
    if not texts:
        raise SourceError(f"source {run.source.name!r} must have a text to verify with, and no key has one")
    logger.info(
        f"{len(texts)} texts of version {run.source.version} of {run.source.name}, model {run.artifact.model_id[:12]}"
    )
    alone = score_alone(run.artifact, texts)
    without = [text for text in alone if text.logits is None]
    if len(without) > _MOST_WITHOUT * len(texts):
        said = ", ".join(sorted({text.error or text.status for text in without}))
        raise PtecError(
            f"texts must have scores when they are alone, and {len(without)} of {len(texts)} have none: {said}"
        )
    tried = {dtype: arrangements(run.config.engine, [text.n_tokens for text in alone], dtype) for dtype in _of(run)}
    with progress("arrangements", sum(map(len, tried.values()))) as step:
        compared = []
        for dtype, those in tried.items():
            for one, found in _scored(run, texts, dtype, those):
                compared.append(compare(one.name, dtype, alone, found, run.artifact.manifest))
                step(1)
    return compared, len(without)


def _of(run: ScoringRun) -> Sequence[Dtype]:
    """Return the arithmetic that is tried: float32 alone without a backbone, and where nights compute in it alone."""
    only = run.artifact.manifest.backbone is None or run.config.engine.dtype == "float32"
    return ("float32",) if only else ("float32", "bfloat16")


def _scored(
    run: ScoringRun, texts: Sequence[str], dtype: Dtype, tried: Sequence[Arrangement]
) -> Iterator[tuple[Arrangement, list[ScoredText]]]:
    """Score the sample in each arrangement of one arithmetic, for which this process loads the model once."""
    scorer, seed = load_scorer(run.artifact, dtype=getattr(torch, dtype)), run.config.verify.seed
    for one in tried:
        if one.partitions is None:
            yield one, score_in_driver(scorer, texts, one, seed)
        else:
            yield one, score_on_spark(run.warehouse.spark, run.artifact, texts, one, seed)
