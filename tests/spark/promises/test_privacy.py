"""Promise 5: no company text reaches a log, an error or a result, whatever the text is; each row gets a status."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptec_udf.errors import PtecError
from tests.spark.support import ANY_ERRORS, Site
from tests.tiny import tiny_artifact, tiny_backbone
from tests.variants import reseal

MARK = "zqxsecret"
POISON = "poisonword"
SCRIPTS = "日本語 العربية עברית हिन्दी ไทย 한국어 Ελληνικά кириллица ქართული 𝔘𝔫𝔦 😀👩‍👩‍👧 e\u0301"

ROWS: dict[str, tuple[str | None, str | None, str]] = {
    # key: name, about, expected status
    "null": (None, None, "empty"),
    "blank": (" \t\u00a0\u2003", "\u200b\u200b", "empty"),
    "megabyte": (MARK, "long words of a very long text " * 34_000, "truncated"),
    "one word of a megabyte": (MARK, "x" * 1_000_000, "truncated"),
    "controls": (f"{MARK}\u0001\u0007\r\n\u2028\u0085", "a\u0000b\x1b[31m", "ok"),
    "scripts": (MARK, SCRIPTS, "ok"),
    "markup": (f"{MARK}<script>alert(1)</script>", "&lt;b&gt; {name} {{x}} %s $1 \\1", "truncated"),
    "quotes ' \" ` . ; -- key": (f"Robert'); DROP TABLE {MARK};--", '"""', "truncated"),
    "ключ 🔑": (MARK, "a key of another script", "truncated"),
    "": (MARK, "an empty key is a key", "ok"),
    "poison": ("name", f"{POISON} {MARK}", "error"),
}


@pytest.fixture
def site(empty: Site) -> Site:
    """A champion whose tokenizer has a word without an embedding."""
    artifact = tiny_artifact(empty.folder / "poisoned", "bert", "deep", seed=9)
    file = Path(tiny_backbone(empty.folder / "poisoned", "bert").removeprefix("path:"), "tokenizer.json")
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"][POISON] = 99_999
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    reseal(artifact)
    empty.promote(empty.register(artifact, "poisoned"))
    return empty


class TestHostileTexts:
    def test_each_row_has_a_status_and_nothing_is_logged(
        self, site: Site, capfd: pytest.CaptureFixture[str], caplog: Any, jvm_log: Callable[[], str]
    ) -> None:
        site.write([(key, name, about) for key, (name, about, _) in ROWS.items()])
        with caplog.at_level(logging.DEBUG):
            result = site.run()
            with pytest.raises(PtecError) as raised:
                site.write([(f"k{at}", MARK, f"{POISON} {at}") for at in range(12)])
                site.run()
        assert result["outcome"] == "done"
        scores = site.scores()
        assert {key: row["status"] for key, row in scores.items()} == {key: row[2] for key, row in ROWS.items()}
        assert scores["megabyte"]["n_truncated"] > 100_000
        assert scores["poison"]["logits"] is None
        assert scores["poison"]["error"]
        printed = capfd.readouterr()
        everything = [printed.out, printed.err, caplog.text, jvm_log(), str(raised.value), repr(site.rows("runs"))]
        assert MARK not in "".join([*everything, repr(scores)])

    def test_bytes_that_are_no_text_are_repaired(self, with_champion: Site) -> None:
        site = with_champion
        frame = site.spark.sql(
            "SELECT 'surrogate' AS key, cast(X'EDA080' AS string) AS name, cast(X'FF41FE' AS string) AS about "
            "UNION ALL SELECT cast(X'6BFF' AS string), 'a key', 'of broken bytes' UNION ALL SELECT NULL, 'n', 't'"
        )
        frame.write.format("delta").mode("overwrite").saveAsTable(site.table)
        assert site.run(ANY_ERRORS)["counts"] == {"ok": 2, "null_key": 1}
        assert set(site.scores()) == {"surrogate", "k\ufffd"}
