"""Spark's daemon of Python workers, with their modules imported before it forks them.

A worker then starts without importing torch (8.5 s of CPU time without the daemon, 0.9 s with it), and workers share
the memory pages of these modules. ``spark.python.daemon.module`` names this module.
"""

from __future__ import annotations

import gc
import importlib
from contextlib import suppress

import pandas  # noqa: F401
import pyarrow  # noqa: F401
import pyspark.worker  # noqa: F401
from pyspark import daemon

import ptec_udf.engine.udf  # noqa: F401

# The engines, and modules that common families of backbones import when they are loaded.
for _module in (
    "openvino",
    "ptec_udf.engine.torch_engine",
    "transformers.tokenization_utils_tokenizers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "transformers.models.llama.modeling_llama",
    "transformers.models.mpnet.modeling_mpnet",
    "transformers.models.mpnet.tokenization_mpnet",
):
    with suppress(ImportError):  # of an engine that is not installed, or in another release of transformers
        importlib.import_module(_module)

if __name__ == "__main__":
    # A garbage collection in a worker writes into each page that it visits, and so copies it.
    gc.collect()
    gc.freeze()
    daemon.manager()
