"""A shadow has a run of its own after the champion's, is seen in no view, and never costs the champion its run."""

from __future__ import annotations

import shutil

from tests.spark.support import Site


class TestShadow:
    def test_is_unseen_until_promoted(self, scored: Site) -> None:
        first, before = scored.sql("SELECT model_id FROM {db}.models")[0]["model_id"], scored.labels()
        second = scored.model(1)
        scored.promote(second, "challenger")
        secrets = ("warehouse.spark={spark.hadoop.fs.s3a.secret.key: sesame}", "notice.webhook=https://hooks/sesame")
        result = scored.run("shadows=[challenger]", *secrets)
        shadow = result["shadows"]["challenger"]
        assert (shadow["outcome"], shadow["counts"], shadow["model_id"]) == ("done", {"ok": 30}, second)
        assert scored.labels() == before
        assert {row["model_id"] for row in scored.sql("SELECT model_id FROM {db}.why_changed")} == {first}
        assert "sesame" not in repr(scored.rows("runs"))

        scored.promote(second)
        expected = scored.sql(f"SELECT key, labels FROM {{db}}.scores WHERE model_id = '{second}'")
        assert scored.labels() == {row["key"]: set(row["labels"]) for row in expected}
        promoted = scored.run()
        assert (promoted["outcome"], promoted["skipped"], promoted["rows_per_second"]) == ("done", 30, None)
        assert {reason for *_, reason in scored.changes(promoted["run_id"])} == {"model"}

    def test_that_fails_leaves_the_champion_alone(self, with_champion: Site) -> None:
        site = with_champion
        second = site.model(1)
        site.promote(second, "challenger")
        shutil.rmtree(site.sql(f"SELECT location FROM {{db}}.models WHERE model_id = '{second}'")[0]["location"])
        result = site.run("shadows=[challenger]")
        assert (result["outcome"], result["counts"]) == ("done", {"ok": 30})
        assert result["shadows"]["challenger"]["outcome"] != "done"
        assert result["shadows"]["challenger"]["error"]
