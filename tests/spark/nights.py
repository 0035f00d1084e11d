"""What tests of the run's inside share; see ``support`` for sites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ptec_udf.nightly import run as nightly_score
from tests.spark.support import SOURCE_SCHEMA as SCHEMA
from tests.spark.support import Site, changed_companies, companies

__all__ = ["SCHEMA", "Site", "before_writing", "changed_companies", "companies", "kill_after_merge"]


def kill_after_merge(site: Site, *overrides: str) -> None:
    """Run a night that ends as a killed process does, after its MERGE and all else that comes before its row."""
    work = nightly_score._run

    def work_and_die(*args: Any) -> None:
        work(*args)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nightly_score, "_run", work_and_die)
        with pytest.raises(KeyboardInterrupt):
            site.night(*overrides)


def before_writing(patch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Let something happen once, between a night's scoring and its first write of scores."""
    write, todo = nightly_score.write, [act]

    def later(*args: Any, **kwargs: Any) -> None:
        if todo:
            todo.pop()()
        write(*args, **kwargs)

    patch.setattr(nightly_score, "write", later)
