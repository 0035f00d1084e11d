"""``ptec demo``: from a table of fictional companies to a screen, a correction and a report, printed on one screen."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from ptec_jobs.demo import story
from ptec_jobs.site import FILE_NAME, Site
from ptec_udf.errors import ConfigError
from ptec_udf.log import logger

SHIPPED = Path(__file__).parent
MARK = ".ptec-demo"
SCHEMA = pa.schema(
    [
        ("company_id", pa.string()),
        ("name", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("one_liner", pa.string()),
        ("description", pa.string()),
        ("industries", pa.list_(pa.string())),
        ("split", pa.string()),
    ]
)

Print = Callable[[str], None]


def run(folder: Path, text: str | None, *, verbose: bool, tell: Print) -> dict[str, Any]:
    """Train, score three times, correct and report; ``tell`` prints each part of the story when it has happened.

    With a text, score it by the model of an earlier demo in the folder; without such a model run the demo first.
    Raise ConfigError when the folder contains files that no demo made.
    """
    place = folder.resolve()
    if text is not None and (place / MARK).exists() and (place / "artifact" / "manifest.json").exists():
        return story.score_text(place / "artifact", text, tell)
    _clear(place)
    shutil.copy(SHIPPED / FILE_NAME, place)
    site = Site(place / FILE_NAME)
    with _quiet(is_quiet=not verbose):
        found = _run(site, place, str(folder), tell)
    if text is not None:
        found |= story.score_text(place / "artifact", text, tell)
    return found


def _run(site: Site, place: Path, name: str, tell: Print) -> dict[str, Any]:
    from ptec_jobs.report.render import write_report

    companies = _companies("companies.jsonl")
    table = place / "warehouse" / "ptec" / "companies"
    write_deltalake(table, pa.Table.from_pylist(companies, schema=SCHEMA))
    with ThreadPoolExecutor(1) as other:
        opened = other.submit(site.open_warehouse, "ptec demo")  # while the model trains
        trained = _train(site, companies)
        tell(story.of_training(trained, companies))
        unseen = story.unseen_company(place / "artifact", companies)
        tell(story.of_company(unseen))
        spark = opened.result().spark
        other.submit(_start_workers, spark)  # while the model is registered
        model_id = _promote(site, place / "artifact")
    runs = [_score(site)]
    tell(story.of_run("First run", runs[0]))
    correction = story.choose_correction(place / "warehouse")
    spark.sql(
        "INSERT INTO ptec.corrections VALUES (:key, :label, false, 'demo', now(), 'read by an analyst')",
        args={"key": correction["key"], "label": correction["label"]},
    )
    _change(DeltaTable(table))
    runs += [_score(site), _score(site)]
    tell(story.of_run("Second run", runs[1]))
    tell(story.of_run("Third run", runs[2]))
    moved = story.moves(place / "warehouse")
    tell(story.of_moves(moved))
    correction |= story.screen_sizes(place / "warehouse", correction)
    tell(story.of_correction(correction))
    write_report(site, place / "report.html", run_id=runs[1]["run_id"], model_id=None, alias="champion")
    tell(story.of_end(name, correction["label"]))
    return {
        "folder": name,
        "model_id": model_id,
        "trained": trained,
        "unseen": unseen,
        "runs": runs,
        "moved": moved,
    } | {
        "correction": correction,
        "report": f"{name}/report.html",
    }


def _train(site: Site, companies: list[dict[str, Any]]) -> dict[str, Any]:
    """Train without Spark, from the same rows and settings as ``ptec extract`` and ``ptec train``."""
    from ptec_training.data.frame import extract_frame
    from ptec_training.train import train

    extract, config = site.section("extract"), site.section("train")
    started = time.monotonic()
    extract_frame(
        pd.DataFrame(companies),
        Path(extract.out),
        name="companies",
        template=extract.template,
        labels=extract.labels,
        split=extract.split,
        key="company_id",
    )
    result = train(config)
    return {
        "labels": len(json.loads((Path(extract.out) / "extract.json").read_text(encoding="utf-8"))["labels"]),
        "seconds": time.monotonic() - started,
        **{name: result["metrics"]["dev"][name] for name in ("macro_f1", "map")},
    }


def _start_workers(spark: SparkSession) -> None:
    rows = spark.range(2)
    rows.mapInPandas(lambda batches: batches, rows.schema).count()


def _promote(site: Site, artifact: Path) -> str:
    from ptec_jobs.cli_model import promote, register

    model_id: str = register(site, artifact, "demo")["model_id"]
    promote(site, model_id, why="the demo's first model")
    return model_id


def _score(site: Site) -> dict[str, Any]:
    """Return the parts of a run's result that the story has, and its seconds."""
    from ptec_jobs.cli_nightly import score

    started = time.monotonic()
    result = score(site)
    shown = ("run_id", "outcome", "source_version", "counts", "skipped", "reused", "removed")
    return {name: result.get(name) for name in shown} | {"seconds": time.monotonic() - started}


def _companies(file: str) -> list[dict[str, Any]]:
    """Read shipped companies."""
    return [json.loads(line) for line in (SHIPPED / file).read_text(encoding="utf-8").splitlines()]


def _change(companies: DeltaTable) -> None:
    """Change some companies, add some, remove some."""
    changes = pa.Table.from_pylist(_companies("changes.jsonl"), schema=SCHEMA)
    merge = companies.merge(changes, "old.company_id = new.company_id", source_alias="new", target_alias="old")
    merge.when_matched_update_all().when_not_matched_insert_all().execute()
    removed = json.loads((SHIPPED / "removed.json").read_text(encoding="utf-8"))
    companies.delete(f"company_id IN ({', '.join(repr(key) for key in removed)})")


def _clear(folder: Path) -> None:
    """Empty the folder of an earlier demo, and no other one."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise ConfigError(f"--folder must be absent, empty or of an earlier demo, was: {str(folder)!r}")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


@contextmanager
def _quiet(*, is_quiet: bool) -> Iterator[None]:
    """Log warnings only, while the block runs."""
    before = logger.level
    logger.setLevel(logging.WARNING if is_quiet else before)
    try:
        yield
    finally:
        logger.setLevel(before)
