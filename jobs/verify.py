"""Show on a sample of the source that scores do not depend on the batching; nothing is written to any table.

spark-submit --properties-file conf/spark-defaults.conf jobs/verify.py --config conf/score.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.command import show_rows
from ptec_udf.config import ScoreConfig
from ptec_udf.config_file import load_config
from ptec_udf.preflight.verify import verify
from ptec_udf.warehouse.session import build_session


def run(config_file: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Read the configuration, open the session, verify; return what each arrangement came to."""
    config = load_config(ScoreConfig, config_file, overrides)
    return verify(build_session(config.warehouse, "ptec verify"), config)


def show(result: dict[str, Any]) -> None:
    """Print a line for each arrangement, and what they come to."""
    show_rows(result["arrangements"])
    passed, tried = sum(one["passed"] for one in result["arrangements"]), len(result["arrangements"])
    texts = f"{result['texts']} texts of version {result['source_version']} of {result['source']}"
    if result["without_scores"]:
        texts += f" (of which {result['without_scores']} have no scores)"
    print(f"In {passed} of {tried} arrangements, {texts} have the scores that each has alone, within the tolerance.")  # noqa: T201


def fault_of(result: dict[str, Any]) -> str | None:
    """Name the arrangements that are past the tolerance; None where there is none."""
    failed = [one for one in result["arrangements"] if not one["passed"]]
    if not failed:
        return None
    wrong = [f"'{one['name']}' ({one['dtype']})" for one in failed]
    if all(one["dtype"] == "bfloat16" for one in failed):
        return (
            f"bfloat16 rounds more than the tolerance allows, in: {'; '.join(wrong)}; in float32 scores do not depend "
            "on the batching: set engine.dtype to float32"
        )
    return (
        "scores must not depend on the batching, and they do, past the tolerance, in: "
        f"{'; '.join(wrong)}; do not score with this model on these machines before the cause is found"
    )


if __name__ == "__main__":
    from jobs.cli import app

    app(["verify", *sys.argv[1:]])
