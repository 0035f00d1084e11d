"""Settings of every test."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.receiver import Receiver

# Must be there before the libraries are imported: no test looks for a hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny matrices: a second thread only waits
# Hundreds of queries fill the ordinary code cache, and the JVM goes on without a compiler.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:ReservedCodeCacheSize=512m -XX:+UseSerialGC")
# What .ci/warm_spark.py has made. A JVM that cannot use it goes on without, and is not to say so among results.
if (archive := Path(sys.prefix) / "classes.jsa").exists():
    os.environ.setdefault("SPARK_SUBMIT_OPTS", f"-XX:SharedArchiveFile={archive} -Xlog:cds=off -Xlog:cds+dynamic=off")


@pytest.fixture(autouse=True)
def text_again() -> Iterator[None]:
    """Let no test leave its lines as JSON objects to the next one."""
    yield
    from ptec_udf.log import configure_log  # not before the settings above

    configure_log("text", "")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A webhook, of which no second is waited for between tries."""
    from ptec_jobs import notice  # as above

    monkeypatch.setattr(notice, "time", SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic))
    made = Receiver()
    yield made
    made.close()
