"""The Spark session: the site's own where there is one, else an embedded one on a folder."""

from __future__ import annotations

import os
import re
import sys
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from ptec_udf.config import WarehouseConfig
from ptec_udf.errors import ConfigError, PtecError
from ptec_udf.warehouse.embedded import FOLDER_SETTING, check_free, embedded_settings, open_metastore
from ptec_udf.warehouse.jars import keep_from_python, remember_jars
from ptec_udf.warehouse.java import check_java, start_java
from ptec_udf.warehouse.remote import remote_session

_DELTA_EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"
_REQUIRED = {
    "spark.sql.extensions": _DELTA_EXTENSION,
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.legacy.parameterSubstitution.constantsOnly": "true",
    "spark.python.worker.reuse": "true",
}
_OLD_VERSIONS = "spark.databricks.delta.vacuum.enforceTimeTravelWithinDeletedFileRetentionDuration"


def build_session(config: WarehouseConfig, app_name: str = "ptec") -> SparkSession:
    """Return the running session of this process, or start one.

    Settings count in this order: spark-submit, ``config.spark``, spark-defaults.conf.

    Args:
        config: where tables live.
        app_name: name that a new session shows to a cluster.

    Raises:
        ConfigError: if a running session lacks required settings or works on another folder.
        WarehouseBusyError: if another process holds the embedded warehouse.
        PtecError: if Java is missing or too old.
    """
    if config.remote is not None:
        return _connect(config.remote.get_secret_value(), app_name)
    folder = Path(config.folder).absolute() if config.folder is not None else None
    if SparkContext._active_spark_context is None:
        spark = _start(config, folder, app_name)
    else:
        spark = SparkSession.builder.getOrCreate()
    _silence(spark)
    _check(spark, folder)
    _let_read_old_versions(spark)
    return spark


def _connect(address: str, app_name: str) -> SparkSession:
    """Open a session of Spark Connect."""
    place = urlsplit(address).netloc  # what follows may be a token
    try:
        spark = remote_session(address, app_name)
        found = {name: spark.conf.get(name, None) for name in _REQUIRED}
    except ImportError as error:
        raise PtecError(f"warehouse.remote needs {error.name}; pip install 'ptec-batch-scoring[connect]'") from None
    except (OSError, PySparkException) as error:
        raise PtecError(f"the Spark Connect server {place} does not answer ({type(error).__name__})") from None
    PySparkLogger.getLogger("SQLQueryContextLogger").disabled = True
    # Reuse of workers is the server's, which tells nobody.
    _refuse(_faults({name: value for name, value in _REQUIRED.items() if "reuse" not in name}, found))
    _let_read_old_versions(spark)
    return spark


def _let_read_old_versions(spark: SparkSession) -> None:
    """Let a night read the versions that it has pinned, as the shipped settings do, unless the site says otherwise."""
    if spark.conf.get(_OLD_VERSIONS, None) is None:
        spark.conf.set(_OLD_VERSIONS, default_settings()[_OLD_VERSIONS])


def default_settings() -> dict[str, str]:
    """Settings of the shipped spark-defaults.conf."""
    lines = (files("ptec_conf") / "spark-defaults.conf").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#")]
    return {name: value.strip() for name, value in pairs}


def make_database(spark: SparkSession, name: str) -> None:
    """Create a database unless it is there; asking first, since Hive logs an error where it is."""
    if not spark.catalog.databaseExists(name):
        spark.sql(f"CREATE DATABASE IF NOT EXISTS `{name}`")


def _start(config: WarehouseConfig, folder: Path | None, app_name: str) -> SparkSession:
    """Start a session; an embedded one where ``folder`` is given."""
    is_submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    # Spark starts `python3` from the PATH otherwise, not the interpreter that has our packages.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    given = _submitted_settings() if is_submitted else {}
    if not is_submitted and SparkContext._gateway is None:
        check_java()
        if folder is not None:
            check_free(folder)
    settings = default_settings() | {"spark.master": config.master}
    if folder is not None and ";" in str(folder):  # Derby takes what follows for a setting of its own
        raise ConfigError(f"warehouse.folder must be a path without ';', was: {str(folder)!r}")
    if folder is not None:
        settings |= embedded_settings(folder, settings["spark.jars.packages"])
    settings |= {name: _text(value) for name, value in config.spark.items()} | given
    if folder is not None:
        make_folder(folder, "warehouse.folder")
    spark = _launch(settings, app_name, folder)
    if folder is not None:
        open_metastore(spark, folder)
        remember_jars(spark, folder)
        # Names without a database mean the same in every command: tables of ours, and sources beside them.
        make_database(spark, config.database)
        spark.catalog.setCurrentDatabase(config.database)
    return spark


def make_folder(folder: Path, setting: str) -> None:
    """Make the folder that a setting names.

    Raises:
        ConfigError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{setting} must be a folder that can be written, was: {str(folder)!r} ({error.strerror})"
        ) from None


def _submitted_settings() -> dict[str, str]:
    """What spark-submit has set already."""
    SparkContext._ensure_initialized()
    return dict(SparkConf().getAll())


def _text(value: str | int | float | bool) -> str:
    """A YAML value as Spark spells it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _launch(settings: dict[str, str], app_name: str, folder: Path | None) -> SparkSession:
    """Start Spark with these settings."""
    if settings["spark.master"].startswith("local"):
        # Keeps Spark from looking for, and warning about, the machine's outer address.
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    levels = files("ptec_conf") / "log4j2.properties"
    if isinstance(levels, Path) and "SPARK_CONF_DIR" not in os.environ:  # a site's folder has levels of its own
        # Read before any call from Python could set a level. Not through that folder: a JVM whose class path has a
        # folder with files takes no classes from an archive.
        os.environ.setdefault("LOG4J_CONFIGURATION_FILE", str(levels))
    conf = SparkConf().setAppName(app_name).setAll(list(settings.items()))
    start_java(conf)
    spark = SparkSession.builder.config(conf=conf).getOrCreate()
    keep_from_python(spark.sparkContext)
    if folder is not None:
        assert spark._jvm is not None
        # Derby reads it when the first table is looked up; its default is the current folder.
        spark._jvm.java.lang.System.setProperty("derby.stream.error.file", str(folder / "derby.log"))
    return spark


def _check(spark: SparkSession, folder: Path | None) -> None:
    """Raise if the session lacks what we need, or works on another folder."""
    found = {name: spark.conf.get(name, "true" if "reuse" in name else "") for name in _REQUIRED}
    faults = _faults(_REQUIRED, found)
    if not faults and not _has_class(spark, _DELTA_EXTENSION):
        faults.append(
            "Delta's jar is not on the session's class path; start it with --packages "
            + default_settings()["spark.jars.packages"]
        )
    at = spark.conf.get(FOLDER_SETTING, None)
    if at is not None and folder is not None and Path(at) != folder:
        faults.append(
            f"warehouse.folder must be {at!r}, was {str(folder)!r}: this process works on the former; "
            "take another process for another folder"
        )
    _refuse(faults)


def _faults(wanted: dict[str, str], found: dict[str, str | None]) -> list[str]:
    """Say which settings a session lacks."""
    return [
        f"Spark setting {name} must {'contain' if name.endswith('extensions') else 'be'} {value}, "
        f"was {found[name] or 'not set'}; start the session with conf/spark-defaults.conf"
        for name, value in wanted.items()
        if not _is_on(name, value, found[name])
    ]


def _refuse(faults: list[str]) -> None:
    if faults:
        raise ConfigError(faults)


def _is_on(name: str, wanted: str, found: str | None) -> bool:
    """Whether a setting has the wanted value; extensions are a list."""
    values = (found or "").split(",") if name == "spark.sql.extensions" else [(found or "")]
    return wanted.lower() in (value.strip().lower() for value in values)


def _has_class(spark: SparkSession, name: str) -> bool:
    """Whether the driver finds a class."""
    assert spark._jvm is not None
    try:
        spark._jvm.java.lang.Thread.currentThread().getContextClassLoader().loadClass(name)
    except Exception as error:
        if "ClassNotFoundException" not in str(error):
            raise
        return False
    return True


def _silence(spark: SparkSession) -> None:
    """Set the levels of the shipped log4j2.properties, whoever started the session."""
    text = (files("ptec_conf") / "log4j2.properties").read_text(encoding="utf-8")
    names = dict(re.findall(r"^logger\.(\w+)\.name = (\S+)$", text, re.M))
    levels = dict(re.findall(r"^logger\.(\w+)\.level = (\S+)$", text, re.M))
    assert spark._jvm is not None
    log4j = spark._jvm.org.apache.logging.log4j
    for logger, name in names.items():
        log4j.core.config.Configurator.setLevel(name, log4j.Level.toLevel(levels[logger]))
    # PySpark prints a JSON stack trace with the SQL text for every query that fails; the error is raised anyway.
    PySparkLogger.getLogger("SQLQueryContextLogger").disabled = True
