"""Promise 6: a run with too many errors or removals stops before its MERGE and keeps what it has scored."""

from __future__ import annotations

import pytest

from ptec_udf.errors import PtecError
from tests.spark.support import ANY_ERRORS, MAX_REMOVED, Site, companies

SECRET = "zqxsecret"


class TestErrorBudget:
    def test_stops_before_merge_and_resumes(self, with_champion: Site, capsys: pytest.CaptureFixture[str]) -> None:
        site, rows = with_champion, companies(30)
        twice = [(key, name, f"{about} {SECRET}") for key, name, about in rows[:12]]
        site.write([*rows, *twice])  # two texts under one key
        with pytest.raises(PtecError, match="12 of 40 companies") as raised:
            site.run()
        assert SECRET not in str(raised.value) + capsys.readouterr().err
        assert (site.rows("scores"), site.rows("score_changes")) == ([], [])
        [run] = site.sql("SELECT outcome, counts FROM {db}.runs")
        assert (run["outcome"], run["counts"]) == ("failed", {"error": 12})

        result = site.run(ANY_ERRORS)
        assert result["counts"] == {"ok": 28, "error": 12}
        assert result["rows_per_second"] is None  # every text was known from the stopped run
        scores = site.scores()
        assert "several" in scores["c0000"]["error"]
        assert SECRET not in repr(scores)


class TestRemovalBudget:
    def test_refuses_a_source_written_by_half(self, scored: Site) -> None:
        before = scored.rows("scores"), scored.rows("score_changes")
        scored.write(companies(20)[12:])
        with pytest.raises(PtecError, match="12 of 30"):
            scored.run(f"{MAX_REMOVED}=0.1")
        assert (scored.rows("scores"), scored.rows("score_changes")) == before
        assert scored.run(f"{MAX_REMOVED}=1")["counts"] == {"removed": 12}
