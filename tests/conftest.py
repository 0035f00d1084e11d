"""Settings of every test."""

from __future__ import annotations

import os

# Must be there before the libraries are imported: no test looks for a hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny matrices: a second thread only waits
# Tests, and the commands that they start, end before a JVM's second compiler has earned what it costs. With one
# compiler the code cache is small; hundreds of queries fill it, and the JVM goes on without a compiler.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=512m -XX:+UseSerialGC")
