"""Versions of the packages that decide the result of a training."""

from __future__ import annotations

import importlib.metadata

_PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers", "numpy")


def packages() -> dict[str, str]:
    """Return the installed version of each package."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}
