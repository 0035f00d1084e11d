"""A site file for tests: ``ptec.yaml`` with the sections that a test needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def write_site(folder: Path, **sections: Any) -> Path:
    """Write ``ptec.yaml`` into a folder and return its path; the warehouse is ``folder/warehouse`` unless set."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ptec.yaml"
    content = {"warehouse": {"folder": str(folder / "warehouse")}, **sections}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
