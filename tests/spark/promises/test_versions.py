"""Promise 3: scores are replaced only by an equal or newer version of the same source."""

from __future__ import annotations

import pytest

from ptec_udf.errors import PtecError
from tests.spark.support import SOURCE_SCHEMA, Site, changed_companies, clear_log_cache, companies


class TestUnchangedSource:
    def test_nothing_to_do_and_no_file_read(self, scored: Site) -> None:
        before = scored.rows("scores")
        for file in scored.location("companies").glob("*.parquet"):
            file.unlink()  # reading the source would fail
        # What a run leaves that was killed after its MERGE.
        names = "run_id, logits_id, text_hash, status, n_tokens, n_truncated"
        scored.sql(f"INSERT INTO {{db}}.score_staging ({names}, staged_at) SELECT {names}, now() FROM {{db}}.scores")
        assert scored.run()["outcome"] == "nothing_to_do"
        assert scored.rows("scores") == before
        assert scored.rows("score_staging") == []


class TestAnotherDtype:
    def test_scores_every_text_again(self, scored: Site) -> None:
        assert scored.run("engine.dtype=bfloat16")["counts"] == {"ok": 30}
        assert len({row["logits_id"] for row in scored.scores().values()}) == 1
        assert scored.run("engine.dtype=bfloat16")["outcome"] == "nothing_to_do"


class TestNewerVersion:
    def test_scores_only_new_and_changed_companies(self, changed: Site) -> None:
        first, second = changed.sql("SELECT * FROM {db}.runs WHERE outcome = 'done' ORDER BY started")
        assert (first["counts"], second["counts"]) == ({"ok": 30}, {"ok": 2, "removed": 1})
        scores = changed.scores()
        written = {key for key, row in scores.items() if row["run_id"] == second["run_id"]}
        assert written == {"c0000", "c0005", "fresh"}
        assert scores["c0005"]["removed_in"] == second["source_version"]
        assert changed.labels().keys() == {row[0] for row in changed_companies(20)}

    def test_older_version_changes_nothing(self, changed: Site) -> None:
        before = changed.rows("scores")
        assert changed.run("source.version=0")["outcome"] == "superseded"
        assert changed.rows("scores") == before

    def test_returning_company_is_not_scored_again(self, changed: Site) -> None:
        changed.write([*changed_companies(20), companies(20)[5]])
        result = changed.run()
        assert (result["counts"], result["rows_per_second"]) == ({"ok": 1}, None)
        assert changed.scores()["c0005"]["removed_in"] is None


class TestAnotherSource:
    def test_needs_consent(self, scored: Site) -> None:
        before = scored.rows("scores")
        other = f"{scored.database}.others"
        frame = scored.spark.createDataFrame([("c0000", "other", "text"), *companies(20)[1:]], SOURCE_SCHEMA)
        frame.write.format("delta").saveAsTable(other)
        with pytest.raises(PtecError, match="accept"):
            scored.run(f"source.table={other}")
        assert scored.rows("scores") == before
        assert scored.run(f"source.table={other}", "source.accept_new=true")["outcome"] == "done"
        assert len({row["source_id"] for row in scored.scores().values()}) == 1


class TestRestoredSource:
    def test_refuses_a_table_older_than_its_scores(self, changed: Site) -> None:
        before = changed.rows("scores")
        for file in (changed.location("companies") / "_delta_log").glob("*1.*"):
            file.unlink()
        clear_log_cache(changed.spark)
        with pytest.raises(PtecError, match="version"):
            changed.run()
        assert changed.rows("scores") == before
