"""Spark's daemon of Python workers, with what each of them needs imported before it forks them.

Forked workers have the pages of these modules in common: a further one takes less memory, and none waits for torch to
be imported. ``spark.python.daemon.module`` names this module, where the interpreter of the executors finds it.
"""

from __future__ import annotations

import gc

import pandas  # noqa: F401
import pyarrow  # noqa: F401
import tokenizers  # noqa: F401
import transformers.tokenization_utils_tokenizers  # noqa: F401
from pyspark import daemon

# Backbones of these families are what most models have; others are imported by each worker.
from transformers.models.auto import modeling_auto, tokenization_auto  # noqa: F401
from transformers.models.bert import modeling_bert, tokenization_bert  # noqa: F401
from transformers.models.llama import modeling_llama  # noqa: F401
from transformers.models.mpnet import modeling_mpnet, tokenization_mpnet  # noqa: F401

import ptec_udf.engine.worker  # noqa: F401

if __name__ == "__main__":
    # A collection in a worker would write into the pages of every object that it looks at, and so copy them.
    gc.collect()
    gc.freeze()
    daemon.manager()
