"""Another run of the same alias commits between a run's comparison with the source and its own commit."""

from __future__ import annotations

from typing import Any

import pytest

from ptec_udf.nightly import run as nightly
from tests.spark.support import Site


@pytest.mark.parametrize("commit", ["merge", pytest.param("move_screen", marks=pytest.mark.long)])
def test_one_of_them_moves_the_screen(scored: Site, monkeypatch: pytest.MonkeyPatch, commit: str) -> None:
    """A promoted model, without scores and with all of them; the other run gets no farther than its commit."""
    before, commits = scored.labels(), getattr(nightly, commit)
    second = scored.champion(1)
    if commit == "move_screen":
        scored.promote(second, "challenger")
        scored.run("model.alias=challenger")

    def after_another_run(*arguments: Any) -> int:
        monkeypatch.setattr(nightly, commit, commits)
        with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
            patched.setattr(nightly, "finish", lambda *_: 1 / 0)
            scored.run()
        return int(commits(*arguments))

    monkeypatch.setattr(nightly, commit, after_another_run)
    assert [scored.run()["outcome"] for _ in range(2)] == ["nothing_to_do"] * 2
    expected = [(key, label) for key, labels in scored.labels().items() for label in labels ^ before[key]]
    found = [tuple(row) for row in scored.sql(f"SELECT key, label FROM {{db}}.why_changed WHERE model_id = '{second}'")]
    assert sorted(found) == sorted(expected) != []
