"""Score company texts with a trained PTEC model, in Python and in Spark.

``PtecModel`` scores; ``PtecClassifier`` trains, and needs the extra ``train``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptec_udf.scoring import PtecModel

__version__ = "0.1.0"

_PUBLIC = {"PtecModel": "ptec_udf.scoring", "PtecClassifier": "ptec_training.classifier"}

__all__ = ["PtecModel", "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public class when it is asked for: executors need neither, and never import the training."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
