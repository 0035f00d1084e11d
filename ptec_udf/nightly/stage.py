"""Score distinct texts into table ``score_staging``, in commits of some minutes of work.

A killed run loses no more than its last commits. Staging also keeps the model out of the MERGE, which reads its rows
more than once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from py4j.protocol import Py4JError
from pyspark import inheritable_thread_target
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ptec_udf.engine.scorer import ERROR, OK, TRUNCATED, WORKER_DIED
from ptec_udf.engine.udf import scoring_udf
from ptec_udf.log import logger, seconds_left, watched
from ptec_udf.nightly.diff import Difference, read_by_key
from ptec_udf.nightly.plan import ScoringRun
from ptec_udf.nightly.reason import worker_died
from ptec_udf.nightly.runs import RUNNING, History, RunRecord
from ptec_udf.nightly.tasks import CommitCursor, TaskPlan, assign_tasks
from ptec_udf.text.columns import text_hash

_FIELDS = ("status", "n_tokens", "n_truncated", "error", "logits")
_COMMITS_AT_ONCE = 2  # the next commit's tasks fill the slots that the last tasks of a commit leave idle
_MAX_KILLERS = 5


def known_texts(run: ScoringRun, wanted: DataFrame, fields: Sequence[str] = _FIELDS) -> DataFrame:
    """Return those of the wanted text hashes that have a score: text_hash and the scored fields, each text once.

    Existing scores of models with the same logits and staged scores serve alike, since equal texts have equal logits.
    A text that failed in another run is not known: it may succeed now. No logits of other texts are shuffled.
    """
    has_logits = F.col("status").isin(OK, TRUNCATED)  # cheaper to read than logits
    same_model = F.col("model_id").isin(*run.same_logits)
    scores = run.warehouse.read("scores", run.scores_version).where(same_model & has_logits)
    staged = run.warehouse.read("score_staging").where(has_logits | (F.col("run_id") == run.run_id))
    columns = [F.col(name) for name in ("text_hash", *fields)]
    same_logits = F.col("logits_id") == run.logits_id
    found = [frame.where(same_logits).select(*columns, has_logits.alias("has_logits")) for frame in (scores, staged)]
    needed = found[0].unionByName(found[1]).join(wanted, on="text_hash", how="left_semi")
    best = F.max_by(F.struct(F.lit(True).alias("is_known"), *fields), "has_logits").alias("best")
    return needed.groupBy("text_hash").agg(best).select("text_hash", *[f"best.{name}" for name in fields])


def group_by_text(run: ScoringRun, difference: Difference) -> DataFrame:
    """Return each text once: text_hash, cost, the key of a company that has it, n_companies and is_known."""
    companies = F.min("key").alias("key"), F.count("*").alias("n_companies")
    by_text = difference.rows.where(F.col("cost").isNotNull()).groupBy("text_hash", "cost").agg(*companies)
    known = known_texts(run, difference.hashes(), ()).withColumn("is_known", F.lit(True))
    joined = by_text.join(known, on="text_hash", how="left")
    return joined.withColumn("is_known", F.coalesce("is_known", F.lit(False)))


def read_texts(run: ScoringRun, texts: DataFrame, columns: Sequence[str] = ()) -> DataFrame:
    """Read texts of ``group_by_text`` from the source: text_hash, text and ``columns``, each text once."""
    names = ("text_hash", *columns)
    rows = read_by_key(run, F.broadcast(texts), names)
    return rows.where(F.col("text_hash") == text_hash("text")).select(*names, "text").dropDuplicates(["text_hash"])


def stage(run: ScoringRun, record: RunRecord, difference: Difference) -> None:
    """Score the unknown texts of a run into staging; record the number of reused texts and the speed."""
    started, config = time.monotonic(), run.config.run
    texts = group_by_text(run, difference)
    counts = texts.groupBy("cost", "is_known").agg(F.count("*").alias("n"), F.sum("n_companies").alias("companies"))
    rows = counts.collect()
    unknown = {row["cost"]: row["n"] for row in rows if not row["is_known"]}
    plan = TaskPlan(unknown, task_cost=config.tokens_per_second * config.task_seconds)
    record.dtype, record.reused = run.dtype, sum(row["companies"] for row in rows) - plan.n_texts
    if not plan.n_texts:
        return
    logger.info(f"{plan.n_texts} texts to score, about {plan.total} tokens, in {plan.n_tasks} tasks")
    seconds = config.commit_minutes * 60
    cursor = CommitCursor(plan, seconds, max(1, round(seconds * config.tokens_per_second / plan.task_cost)))
    scorer = _Scorer(run, scoring_udf(run.warehouse.spark, run.artifact, run.config.engine))
    assigned = assign_tasks(texts.where(~F.col("is_known")).select("text_hash", "cost", "key"), plan)

    def score_commits() -> None:
        while (tasks := cursor.take()) is not None:
            begun = time.monotonic()
            in_range = assigned.where(F.col("task").between(tasks.start, tasks.stop - 1))
            scorer.score_surviving(in_range.withColumn("task", F.col("task") - tasks.start), len(tasks))
            cursor.done(tasks, time.monotonic() - begun)

    def describe(elapsed: float) -> str:
        share = cursor.share_done
        return f"scoring: {share:.0%} of {plan.n_texts} texts staged, {seconds_left(share, elapsed)}"

    with watched(describe):
        _in_threads(run, score_commits, cursor.stop)
    record.rows_per_second = round(plan.n_texts / (time.monotonic() - started), 2)


def _in_threads(run: ScoringRun, action: Callable[[], None], stop: Callable[[], None]) -> None:
    """Call ``action`` in a few threads; after an error or Ctrl-C nothing new begins and running jobs are cancelled."""
    spark = run.warehouse.spark

    def tagged() -> None:
        spark.addTag(run.run_id)
        try:
            action()
        finally:
            spark.removeTag(run.run_id)

    pool = ThreadPoolExecutor(_COMMITS_AT_ONCE)
    try:
        for done in [pool.submit(inheritable_thread_target(spark)(tagged)) for _ in range(_COMMITS_AT_ONCE)]:
            done.result()
    except BaseException:
        stop()
        spark.interruptTag(run.run_id)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class _Scorer:
    """Scores texts and appends the result to staging."""

    run: ScoringRun
    udf: Callable[[str], Column]
    n_killers: int = 0

    def score_surviving(self, texts: DataFrame, n_tasks: int) -> None:
        """Score texts; if a worker dies, halve them until the text that ends it is alone, and stage it as an error.

        Raise PySparkException, Py4JError if too many texts end their worker: then the texts are not the reason.
        """
        try:
            self._score(texts, n_tasks)
            return
        except (PySparkException, Py4JError) as error:
            if not worker_died(error):
                raise
            hashes = [row[0] for row in texts.select("text_hash").orderBy("text_hash").collect()]
            if len(hashes) == 1:
                self._stage_killer(hashes[0], error)
                return
        logger.warning(f"a worker died while it scored {len(hashes)} texts; scoring each half of them")
        middle = F.col("text_hash") < F.lit(hashes[len(hashes) // 2])
        for half in (texts.where(middle), texts.where(~middle)):
            self.score_surviving(half, n_tasks)

    def _score(self, texts: DataFrame, n_tasks: int) -> None:
        """Score texts with task and cost in one commit; the texts of a task have similar lengths."""
        rows = read_texts(self.run, texts, ("task", "cost")).repartitionById(n_tasks, "task")
        rows = rows.sortWithinPartitions(F.desc("cost"), "text_hash")
        self._append(rows.select("text_hash", self.udf("text").alias("scored")).select("text_hash", "scored.*"))

    def _stage_killer(self, hash_: str, error: Exception) -> None:
        self.n_killers += 1
        if self.n_killers > _MAX_KILLERS:
            raise error
        row = {"text_hash": hash_, "status": ERROR, "n_tokens": 0, "n_truncated": 0, "error": WORKER_DIED}
        self._append(self.run.warehouse.spark.createDataFrame([row]))

    def _append(self, rows: DataFrame) -> None:
        origin = {"logits_id": F.lit(self.run.logits_id), "run_id": F.lit(self.run.run_id)}
        self.run.warehouse.append("score_staging", rows.withColumns(origin | {"staged_at": F.current_timestamp()}))


def clear_staging(run: ScoringRun) -> None:
    """Remove the staged rows of this run, of ended runs with the same logits, and rows too old for reuse."""
    running = {row["run_id"] for row in History.read(run.warehouse).rows if row["outcome"] == RUNNING} - {run.run_id}
    staged = run.warehouse.read("score_staging").groupBy("run_id", "logits_id")
    days = F.datediff(F.current_timestamp(), F.max("staged_at")).alias("days")
    removed = [
        row["run_id"]
        for row in staged.agg(days).collect()
        if row["days"] > run.config.run.keep_staged_days
        or (row["logits_id"] == run.logits_id and row["run_id"] not in running)
    ]
    if removed:
        run.warehouse.delete("score_staging", F.col("run_id").isin(removed))
    is_left = ~F.col("run_id").isin([*running])
    if not run.warehouse.read("diff_staging").where(is_left).isEmpty():
        run.warehouse.delete("diff_staging", is_left)
