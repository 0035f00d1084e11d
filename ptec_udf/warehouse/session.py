"""The Spark session: the site's session as it is, or a session on the embedded warehouse."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from ptec_udf.config import WarehouseConfig
from ptec_udf.errors import ConfigError
from ptec_udf.warehouse.embedded import (
    EMBEDDED_SETTINGS,
    FOLDER_SETTING,
    register_tables,
    remember_jars,
    remembered_jars,
)
from ptec_udf.warehouse.folder import make_folder
from ptec_udf.warehouse.java import check_java, start_java
from ptec_udf.warehouse.remote import connect, is_remote, site_session

# How sessions answer that lack Delta's jar, and its SQL extension or its catalog.
_NO_DELTA = ("DATA_SOURCE_NOT_FOUND", "DELTA_CONFIGURE_SPARK_SESSION_WITH_EXTENSION_AND_CATALOG")
_READ_OLD_VERSIONS = "spark.databricks.delta.vacuum.enforceTimeTravelWithinDeletedFileRetentionDuration"


def build_session(config: WarehouseConfig, app_name: str = "ptec") -> SparkSession:
    """Return the session that this process has, classic or Spark Connect, as it is; or start one.

    Settings of a started session count in this order: spark-submit, ``config.spark``, conf/spark-defaults.conf.
    """
    # Python logs a stack trace with the SQL text for every query that fails; the error is raised anyway.
    PySparkLogger.getLogger("SQLQueryContextLogger").disabled = True
    if config.remote is not None:
        spark = connect(config.remote.get_secret_value(), app_name)
    else:
        spark = site_session() or _start(config, app_name)
    if not is_remote(spark):
        _set_log_levels(spark)
    _check_delta(spark)
    # A run reads the versions that it has pinned, also of a table that was idle for a week.
    with suppress(PySparkException):  # serverless sessions allow few settings
        if spark.conf.get(_READ_OLD_VERSIONS, None) is None:
            spark.conf.set(_READ_OLD_VERSIONS, "false")
    if folder := spark.conf.get(FOLDER_SETTING, None):
        wanted = config.folder and str(Path(config.folder).absolute())
        if wanted and wanted != folder:
            rule = f"warehouse.folder must be {folder!r} in this process, was {wanted!r}"
            raise ConfigError(f"{rule}: use another process for another folder")
        register_tables(spark, Path(folder), config.database)
        spark.catalog.setCurrentDatabase(config.database)
    return spark


def _start(config: WarehouseConfig, app_name: str) -> SparkSession:
    is_submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    # Otherwise Spark starts `python3` from the PATH, which may lack our packages.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if not is_submitted and SparkContext._gateway is None:
        check_java()
    settings = _default_settings() | {"spark.master": config.master}
    folder = None if config.folder is None else Path(config.folder).absolute()
    if folder is not None:
        make_folder(folder, "warehouse.folder")
        settings |= EMBEDDED_SETTINGS | remembered_jars(settings["spark.jars.packages"])
        settings |= {FOLDER_SETTING: str(folder), "spark.sql.warehouse.dir": str(folder)}
    for name, value in config.spark.items():
        settings[name] = str(value).lower() if isinstance(value, bool) else str(value)
    if is_submitted:
        SparkContext._ensure_initialized()
        settings |= dict(SparkConf().getAll())
    if folder is not None:
        settings["spark.sql.catalogImplementation"] = "in-memory"
    spark = _launch(settings, app_name)
    if folder is not None:
        remember_jars(spark)
    return spark


def _default_settings() -> dict[str, str]:
    """Return the settings of the shipped spark-defaults.conf."""
    lines = (files("ptec_conf") / "spark-defaults.conf").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#")]
    return {name: value.strip() for name, value in pairs}


def _launch(settings: dict[str, str], app_name: str) -> SparkSession:
    if settings["spark.master"].startswith("local"):
        # Spark then does not look for the machine's outer address, nor warn about it.
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    levels = files("ptec_conf") / "log4j2.properties"
    if isinstance(levels, Path) and "SPARK_CONF_DIR" not in os.environ:
        os.environ.setdefault("LOG4J_CONFIGURATION_FILE", str(levels))
    conf = SparkConf().setAppName(app_name).setAll(list(settings.items()))
    start_java(conf)
    return SparkSession.builder.config(conf=conf).getOrCreate()


def _check_delta(spark: SparkSession) -> None:
    """Raise unless the session understands Delta: a question about a missing table must get Delta's own answer."""
    try:
        spark.sql("DESCRIBE DETAIL delta.`/ptec/no such table`").collect()
    except PySparkException as error:
        condition, parameters = error.getCondition(), error.getMessageParameters() or {}
        if condition in _NO_DELTA or parameters.get("relationName") == "`DETAIL`":  # a table name for plain Spark
            rule = f"the Spark session must have Delta Lake, it answers {condition}"
            raise ConfigError(f"{rule}: start it with the settings of conf/spark-defaults.conf") from None


def _set_log_levels(spark: SparkSession) -> None:
    """Set the levels of the shipped log4j2.properties: messages of the loggers that it names can quote a text."""
    text = (files("ptec_conf") / "log4j2.properties").read_text(encoding="utf-8")
    names = dict(re.findall(r"^logger\.(\w+)\.name = (\S+)$", text, re.M))
    levels = dict(re.findall(r"^logger\.(\w+)\.level = (\S+)$", text, re.M))
    assert spark._jvm is not None
    log4j = spark._jvm.org.apache.logging.log4j
    for logger, name in names.items():
        log4j.core.config.Configurator.setLevel(name, log4j.Level.toLevel(levels[logger]))
