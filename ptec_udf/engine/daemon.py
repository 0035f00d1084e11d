"""Spark's daemon of Python workers, with what each of them needs imported before it forks them.

Forked workers have the pages of these modules in common: a further one takes less memory, and none waits for torch to
be imported. ``spark.python.daemon.module`` names this module, where the interpreter of the executors finds it.
"""

from __future__ import annotations

import gc
import importlib
from contextlib import suppress

import pandas  # noqa: F401
import pyarrow  # noqa: F401
import pyspark.worker  # noqa: F401
from pyspark import daemon

import ptec_udf.engine.torch_engine
import ptec_udf.engine.udf  # noqa: F401

# What loading a backbone imports, of the families that most models have; others are imported by each worker.
for _module in (
    "tokenization_utils_tokenizers",
    "models.auto.modeling_auto",
    "models.auto.tokenization_auto",
    "models.bert.modeling_bert",
    "models.bert.tokenization_bert",
    "models.llama.modeling_llama",
    "models.mpnet.modeling_mpnet",
    "models.mpnet.tokenization_mpnet",
):
    with suppress(ImportError):  # of another release, whose workers will import what they need
        importlib.import_module(f"transformers.{_module}")

if __name__ == "__main__":
    # A collection in a worker would write into the pages of every object that it looks at, and so copy them.
    gc.collect()
    gc.freeze()
    daemon.manager()
