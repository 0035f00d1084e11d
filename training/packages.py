"""The packages whose versions decide what a training gives."""

from __future__ import annotations

import importlib.metadata

_PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers", "numpy")


def packages() -> dict[str, str]:
    """Versions of what computes."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}
