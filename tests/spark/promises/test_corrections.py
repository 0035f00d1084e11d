"""Promise 8: an analyst's correction wins over the model, whatever is scored later."""

from __future__ import annotations

from tests.spark.support import Site, companies
from tests.tiny import LABELS


class TestCorrection:
    def test_wins_until_it_is_deleted(self, scored: Site) -> None:
        before = scored.labels()
        added = next(label for label in LABELS if label not in before["c0010"])
        key, removed = next(
            (key, label) for key, labels in sorted(before.items()) for label in labels if key != "c0010"
        )
        scored.correct(("c0010", added, True), (key, removed, False), ("nobody", added, True))
        earlier = f"('c0010', '{added}', false, 'test', TIMESTAMP '2026-01-01', NULL)"  # the newest counts
        scored.sql(f"INSERT INTO {{db}}.corrections (key, label, is_true, who, at, why) VALUES {earlier}")
        texts = {"c0010": "another text of the same company"}
        scored.write([(one, name, texts.get(one, about)) for one, name, about in companies(20)])
        first = scored.run()
        after = scored.labels()
        assert added in after["c0010"]
        assert after[key] == before[key] - {removed}
        assert (key, removed, False, "correction") in scored.changes(first["run_id"])
        assert added in {label for one, label, entered, reason in scored.changes(first["run_id"]) if one == "c0010"}
        screen = scored.sql(f"SELECT key, corrected FROM {{db}}.screen('{added}', 1.0)")
        assert [tuple(row) for row in screen] == [("c0010", True)]
        assert key not in {row["key"] for row in scored.sql(f"SELECT key FROM {{db}}.screen('{removed}', 0.0)")}
        assert scored.run()["outcome"] == "nothing_to_do"

        scored.sql(f"DELETE FROM {{db}}.corrections WHERE key = '{key}'")
        second = scored.run()
        assert second["counts"] == {"ok": 1}
        assert scored.changes(second["run_id"]) == {(key, removed, True, "correction")}
        assert scored.labels()[key] == before[key]
