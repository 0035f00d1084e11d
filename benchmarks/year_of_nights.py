"""The nights of ``benchmarks.year``, and what is measured after some of them."""

from __future__ import annotations

import json
import random
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.clock import SETTINGS, Clock
from benchmarks.growth import made_up
from benchmarks.nights import columns_of, make_champion
from jobs import cli_model, cli_nightly
from jobs.site import Site as SiteFile
from ptec_udf.config import WarehouseConfig
from ptec_udf.errors import ConfigError
from ptec_udf.log import logger
from ptec_udf.warehouse.schemas import SCHEMAS
from ptec_udf.warehouse.session import build_session

WEEK, MONTH = 7, 30
LAST_OF_MONTH = 5
"""Nights before a measurement, of whose seconds the median is told."""

_TIMES = 5

# A few thousand rows are done before their code is compiled, and a catalog that is thrown away need not reach the disk.
_QUICK = {
    "spark.driver.extraJavaOptions": "-Dderby.system.durability=test -XX:+UseParallelGC -XX:ReservedCodeCacheSize=512m",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.driver.memory": "3g",
}
_TABLE = "ptec.companies"


@dataclass(frozen=True)
class Year:
    """What is to be run.

    Attributes:
        artifact: folder of a model.
        nights: their number.
        companies: of the first night; each later one changes a hundredth, and adds and removes a thousandth.
        keep_days: age from which housekeeping removes rows; None: it removes none.
        weekly: whether housekeeping runs, once a week.
        master: Spark master.
    """

    artifact: str
    nights: int
    companies: int
    keep_days: int | None
    weekly: bool
    master: str


@dataclass
class Site:
    """A warehouse, the source as it stands, and the day."""

    year: Year
    folder: Path
    clock: Clock
    draw: random.Random = field(default_factory=random.Random)
    companies: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    months: list[dict[str, Any]] = field(default_factory=list)

    def open(self) -> None:
        """Start Spark, write the settings, promote the model; or go on after the last night that was noted."""
        spark = SETTINGS | _QUICK
        warehouse = {"folder": str(self.folder / "warehouse"), "master": self.year.master, "spark": spark}
        source = {"table": _TABLE, "key": "key", "columns": columns_of(self.year.artifact)}
        days = dict.fromkeys(("score_changes", "drift", "runs", "scores"), self.year.keep_days)
        settings: dict[str, dict[str, Any]] = {
            "warehouse": warehouse,
            "source": source,
            "engine": {"dtype": "float32"},
            "housekeeping": {"keep_days": days},
            "recalibrate": {"out": str(self.folder / "recalibrated")},
        }
        self.config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        texts = made_up(self.year.companies + self.year.nights * (self.year.companies // 1000))
        self.fresh = {f"c{at:07d}": text for at, text in enumerate(texts)}
        self.companies = {key: self.fresh.pop(key) for key in list(self.fresh)[: self.year.companies]}
        is_new = not self.notes.exists()
        if not is_new:
            self.go_on()
        with self.clock.given_to_java():
            self.spark: SparkSession = build_session(WarehouseConfig.model_validate(warehouse))
        if is_new:
            make_champion(Path(self.year.artifact), self.config)
        # Each model has them, and a year that goes on has more models than one that begins.
        self.labels = sorted({row["name"] for row in self.spark.table("ptec.labels").collect()})

    @property
    def notes(self) -> Path:
        """File of what is to be known to go on."""
        return self.folder / "notes.json"

    def note(self) -> None:
        """Write down that the night has ended."""
        part = self.notes.with_suffix(".part")
        part.write_text(json.dumps([self.of_year(), self.clock.days, self.seconds, self.months]), encoding="utf-8")
        part.rename(self.notes)

    def of_year(self) -> dict[str, Any]:
        """Return what may not change when a year goes on."""
        return {name: value for name, value in asdict(self.year).items() if name not in ("nights", "master")}

    def go_on(self) -> None:
        """Let the days go by that were noted; their companies are drawn again, their files keep their ages."""
        year, days, self.seconds, self.months = json.loads(self.notes.read_text(encoding="utf-8"))
        if year != self.of_year():
            raise ConfigError(f"--folder must hold nights of this year, held others: {year}")
        for _ in range(days):
            self.clock.next_day()
            self.draw_companies()
        self.clock.aged.update((self.folder / "warehouse" / "tables").rglob("*"))

    @property
    def config(self) -> Path:
        """The site file."""
        return self.folder / "ptec.yaml"

    def promote(self, model_id: str) -> None:
        """Let a model be champion, whatever the gate says."""
        cli_model.promote(SiteFile(self.config), model_id, why="as the year goes on", force=True)

    def night(self) -> None:
        """Let a day go by, change what changes, and score."""
        self.clock.next_day()
        self.draw_companies()
        self.write()
        if self.clock.days % WEEK == 3:
            self.correct()
        if self.clock.days % MONTH == 15:
            self.judge_otherwise()
        started = time.monotonic()
        result = cli_nightly.score(SiteFile(self.config))
        self.seconds.append(time.monotonic() - started)
        if result["outcome"] != "done":
            raise RuntimeError(f"night {self.clock.days}: {result['outcome']}")
        if self.year.weekly and self.clock.days % WEEK == 0:
            cli_nightly.housekeeping(SiteFile(self.config))
        self.clock.set_ages(self.folder / "warehouse" / "tables")

    def draw_companies(self) -> None:
        """Draw other texts, companies that go and that come; each day's draw is its own."""
        self.draw.seed(self.clock.days)
        if self.clock.days > 1:
            keys = sorted(self.companies)
            for key in self.draw.sample(keys, len(keys) // 100):
                self.companies[key] = f"{self.companies[key]} {self.clock.days}"
            for key in self.draw.sample(keys, len(keys) // 1000):
                del self.companies[key]
            for key in list(self.fresh)[: self.year.companies // 1000]:
                self.companies[key] = self.fresh.pop(key)

    def write(self) -> None:
        """Write a version of the source."""
        frame = self.spark.createDataFrame(list(self.companies.items()), "key string, text string")
        frame.coalesce(1).write.format("delta").mode("overwrite").saveAsTable(_TABLE)

    def correct(self) -> None:
        """Let an analyst say something of three companies."""
        for key in self.draw.sample(sorted(self.companies), 3):
            values = {"key": key, "label": self.draw.choice(self.labels)}
            self.spark.sql(
                "INSERT INTO ptec.corrections VALUES (:key, :label, true, 'analyst', now(), NULL)", args=values
            )

    def judge_otherwise(self) -> None:
        """Give a label another threshold: a model of its own, which is the champion from now on."""
        threshold = round(self.draw.uniform(0.3, 0.7), 3)
        settings = (
            f"recalibrate.set_thresholds={json.dumps({self.labels[0]: threshold})}",
            f"recalibrate.out={self.folder / str(self.clock.days)}",
            "recalibrate.overwrite=true",  # a killed night may have made it
        )
        self.promote(cli_model.recalibrate(SiteFile(self.config, settings))["model_id"])

    def measured(self) -> dict[str, Any]:
        """Measure queries, each by the median of some, and tables."""
        found: dict[str, Any] = {"night": self.clock.days, "night_s": statistics.median(self.seconds[-LAST_OF_MONTH:])}
        asked = {name: self.asked(query) for name, query in self.queries().items()}
        found["queries"] = {name: seconds for name, (seconds, _) in asked.items()}
        found["rows_of_queries"] = {name: n_rows for name, (_, n_rows) in asked.items()}
        found["tables"] = {name: self.size(name) for name in SCHEMAS}
        tables = [self.table_folder(name) for name in SCHEMAS]
        files = [file for folder in tables for file in folder.rglob("*") if file.is_file()]
        found["warehouse_mb"] = sum(file.stat().st_size for file in files) / 1e6
        logger.info(
            f"night {self.clock.days}: {found['night_s']:.1f} s, {found['warehouse_mb']:.1f} MB, {found['queries']}"
        )
        return found

    def queries(self) -> dict[str, str]:
        """Return what analysts ask, by a name."""
        label, key = self.labels[0].replace("'", "\\'"), max(self.companies)
        changes = self.spark.table("ptec.score_changes").groupBy("key").count().orderBy(F.desc("count"), "key")
        changed = (changes.first() or {"key": key})["key"]  # housekeeping may have left none
        return {
            "a screen": f"SELECT * FROM ptec.screen('{label}', NULL)",
            "a company": f"SELECT label, probability FROM ptec.label_scores WHERE key = '{key}'",
            "why it changed": f"SELECT * FROM ptec.why_changed('{changed}')",  # who has changed most
            "drift of the newest night": "SELECT * FROM ptec.drift_summary ORDER BY night DESC LIMIT 2",
            "the last runs": "SELECT run_id, outcome, counts FROM ptec.runs ORDER BY ended DESC LIMIT 7",
        }

    def asked(self, query: str) -> tuple[float, int]:
        """Return the median seconds of a query that was asked once before, and its rows."""
        seconds = []
        for _ in range(_TIMES + 1):
            started = time.monotonic()
            rows = self.spark.sql(query).collect()
            seconds.append(time.monotonic() - started)
        return statistics.median(seconds[1:]), len(rows)

    def size(self, name: str) -> dict[str, Any]:
        """Measure a table."""
        detail = self.spark.sql(f"DESCRIBE DETAIL ptec.{name}").first()
        assert detail is not None
        folder = self.table_folder(name)
        return {
            "rows": self.spark.table(f"ptec.{name}").count(),
            "files": detail["numFiles"],
            "mb": detail["sizeInBytes"] / 1e6,
            "files_on_disk": sum("_delta_log" not in file.parts for file in folder.rglob("*.parquet")),
            "log_files": sum(file.suffix in (".json", ".parquet") for file in folder.glob("_delta_log/*")),
        }

    def table_folder(self, name: str) -> Path:
        """Return the folder of a table of ours."""
        return self.folder / "warehouse" / "tables" / "ptec.db" / name


def run_year(year: Year, folder: Path) -> list[dict[str, Any]]:
    """Run all nights that the folder has not had; return what was measured after the first ones and each month."""
    site = Site(year, folder, Clock(folder / "clock"))
    with site.clock.given_to_python():
        site.open()
        for night in range(site.clock.days + 1, year.nights + 1):
            site.night()
            if night % MONTH == 0 or night in (LAST_OF_MONTH, year.nights):
                site.months.append(site.measured())
            elif night % WEEK == 0:
                logger.info(f"night {night} of {year.nights}: {site.seconds[-1]:.1f} s")
            site.note()
        site.spark.stop()
    return site.months
