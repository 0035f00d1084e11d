"""Promise 3: scores are replaced only by an equal or newer version of the same source."""

from __future__ import annotations

import pytest

from ptec_udf.errors import PtecError
from tests.spark.support import SOURCE_SCHEMA, Site, changed_companies, companies


class TestUnchangedSource:
    def test_nothing_to_do_and_no_file_read(self, scored: Site) -> None:
        before = scored.rows("scores")
        for file in scored.location("companies").glob("*.parquet"):
            file.unlink()  # reading the source would fail
        assert scored.run()["outcome"] == "nothing_to_do"
        assert scored.rows("scores") == before


class TestNewerVersion:
    def test_scores_only_new_and_changed_companies(self, scored: Site) -> None:
        before = scored.scores()
        scored.write(changed_companies(20))
        assert scored.run()["counts"] == {"ok": 2, "removed": 1}
        after = scored.scores()
        assert {key for key in after if after[key] != before.get(key)} == {"c0000", "c0005", "fresh"}
        assert after["c0005"]["removed_in"] == 1
        assert scored.labels().keys() == {row[0] for row in changed_companies(20)}
        # An older version changes nothing.
        assert scored.run("source.version=0")["outcome"] == "superseded"
        assert scored.scores() == after
        # A removed company that returns is not scored again.
        scored.write([*changed_companies(20), companies(20)[5]])
        result = scored.run()
        assert (result["counts"], result["tokens"] or 0) == ({"ok": 1}, 0)
        assert scored.scores()["c0005"]["removed_in"] is None


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
    def test_refuses_a_table_older_than_its_scores(self, scored: Site) -> None:
        scored.write(changed_companies(20))
        scored.run()
        before = scored.rows("scores")
        for file in (scored.location("companies") / "_delta_log").glob("*1.*"):
            file.unlink()
        scored.clear_log_cache()
        with pytest.raises(PtecError, match="version 1 of it was scored"):
            scored.run()
        assert scored.rows("scores") == before
