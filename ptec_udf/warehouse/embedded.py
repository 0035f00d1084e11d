"""The embedded warehouse: Delta folders below one folder, registered in an in-memory catalog at session start.

Layout: ``<folder>/<database>/<table>``. The folders are the only state, so any number of processes can read and write.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from ptec_udf.text.quoting import literal, quote
from ptec_udf.warehouse.folder import find_tables
from ptec_udf.warehouse.schemas import SCHEMAS
from ptec_udf.warehouse.view_files import view_statements
from ptec_udf.warehouse.views import create_views

FOLDER_SETTING = "spark.ptec.folder"  # of the embedded warehouse; not set in a session of the site

EMBEDDED_SETTINGS = {
    # For one machine; Spark's defaults (200, 50 and 10,000 partitions) are for a cluster.
    "spark.sql.shuffle.partitions": "8",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "8",
    "spark.databricks.delta.snapshotPartitions": "2",
    # Adaptive execution plans each stage by itself; without it, a run of few companies takes a fifth less CPU time.
    "spark.sql.adaptive.enabled": "false",
    "spark.driver.memory": "2g",  # the driver is also the executor; the default of 1g is too little for a run
    "spark.python.daemon.module": "ptec_udf.engine.daemon",
}

_HEADER = """\
-- Tables, views and functions of this embedded warehouse for plain spark-sql. Written by ptec; changes are lost.
-- SPARK_CONF_DIR=conf spark-sql --conf spark.sql.catalogImplementation=in-memory -i {file}
"""


def remember_jars(spark: SparkSession) -> None:
    """Record in the account's cache where Spark found its packages, so that the next start needs no network.

    Unlike ``spark.jars.packages``, ``spark.jars`` is not put on the path of each Python worker (0.8 s and 75 MB each).
    """
    packages, jars = spark.conf.get("spark.jars.packages", ""), spark.conf.get("spark.jars", "")
    if packages and jars:
        with suppress(OSError):  # an account without a home
            replace_text(_jars_file(), json.dumps({"packages": packages, "jars": jars}))


def remembered_jars(packages: str) -> dict[str, str]:
    """Return settings with the recorded jars, if they are of these packages and all of them exist."""
    try:
        recorded = json.loads(_jars_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    jars = str(recorded["jars"]).split(",")
    if recorded["packages"] != packages or not all(Path(jar.removeprefix("file://")).exists() for jar in jars):
        return {}
    return {"spark.jars": recorded["jars"], "spark.jars.packages": ""}


def _jars_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ptec" / "jars.json"


def register_tables(spark: SparkSession, folder: Path, database: str) -> None:
    """Create ``database``, and register the tables and views that the catalog lacks, also of other processes."""
    new: dict[str, tuple[Path, list[str]]] = {database: (folder / database, [])}
    for name, (place, tables) in (new | find_tables(folder)).items():
        if not spark.catalog.databaseExists(quote(name)):  # or Spark warns
            spark.sql(f"CREATE DATABASE IF NOT EXISTS {quote(name)} LOCATION {literal(place)}")
        registered = {row.tableName for row in spark.sql(f"SHOW TABLES IN {quote(name)}").collect()}
        for table in sorted(set(tables) - registered):
            spark.sql(_create_table(name, table, place))
        if name == database and SCHEMAS.keys() <= {*tables}:
            with suppress(AnalysisException):  # Warehouse.ensure names the errors of the tables
                create_views(spark, name)
    write_views_sql(folder)


def write_views_sql(folder: Path) -> None:
    """Write ``views.sql``, with which plain spark-sql gets the same tables, views and functions."""
    file, statements = folder / "views.sql", []
    for name, (place, tables) in find_tables(folder).items():
        statements.append(f"CREATE DATABASE IF NOT EXISTS {quote(name)}")
        statements += [_create_table(name, table, place) for table in tables]
        if SCHEMAS.keys() <= {*tables}:
            statements += [*view_statements(name), f"USE {quote(name)}"]
    text = _HEADER.format(file=file) + "".join(f"{statement.strip()};\n" for statement in statements)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        replace_text(file, text)


def replace_text(file: Path, text: str) -> None:
    """Write a file in one step, since other processes read it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)


def _create_table(database: str, table: str, place: Path) -> str:
    return f"CREATE TABLE IF NOT EXISTS {quote(database, table)} USING delta LOCATION {literal(place / table)}"
