"""Rows and names that a careless job dies of: each gets a status, the night ends, nothing is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptec_udf.nightly import stage as stage_module
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.nights import Site

MARK = "zqxsecret"
SCRIPTS = "日本語 العربية עברית हिन्दी ไทย 한국어 Ελληνικά кириллица ქართული 𝔘𝔫𝔦 😀👩‍👩‍👧 e\u0301"

ROWS: dict[str, tuple[str | None, str | None, str]] = {
    # key: name, about, expected status
    "null": (None, None, "empty"),
    "blank": (" \t\u00a0\u2003", "\u200b\u200b", "empty"),
    "megabyte": (MARK, "long words of a very long text " * 34_000, "truncated"),
    "one word of a megabyte": (MARK, "x" * 1_000_000, "ok"),
    "controls": (f"{MARK}\u0001\u0007\r\n\u2028\u0085", "a\u0000b\x1b[31m", "ok"),
    "scripts": (MARK, SCRIPTS, "ok"),
    "markup": (f"{MARK}<script>alert(1)</script>", "&lt;b&gt; {name} {{x}} %s $1 \\1", "truncated"),
    "quotes ' \" ` . ; -- key": (f"Robert'); DROP TABLE {MARK};--", '"""', "truncated"),
    "ключ 🔑": (MARK, "a key of another script", "truncated"),
    "": (MARK, "an empty key is a key", "ok"),
}


@pytest.fixture
def site(warehouse: Warehouse, tmp_path: Path) -> Site:
    made = Site(warehouse, tmp_path)
    made.champion()
    return made


def test_every_row_has_its_status(
    site: Site, capfd: pytest.CaptureFixture[str], caplog: Any, jvm_log: Callable[[], str]
) -> None:
    site.write([(key, name, about) for key, (name, about, _) in ROWS.items()])
    with caplog.at_level(logging.DEBUG):
        result = site.night()
    assert result["outcome"] == "done"
    assert {key: row["status"] for key, row in site.scores().items()} == {key: row[2] for key, row in ROWS.items()}
    assert site.scores()["megabyte"]["n_truncated"] > 100_000
    printed = capfd.readouterr()
    assert MARK not in printed.out + printed.err + caplog.text + jvm_log()


def test_bytes_that_are_no_text_are_repaired(site: Site) -> None:
    frame = site.spark.sql(
        "SELECT 'surrogate' AS key, cast(X'EDA080' AS string) AS name, cast(X'FF41FE' AS string) AS about "
        "UNION ALL SELECT cast(X'6BFF' AS string), 'a key', 'of broken bytes'"
    )
    frame.write.format("delta").mode("overwrite").saveAsTable(site.table)
    assert site.night()["counts"] == {"ok": 2}
    assert set(site.scores()) == {"surrogate", "k\ufffd"}


def test_poisoned_text_is_found_and_its_neighbours_are_scored(
    site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], jvm_log: Callable[[], str]
) -> None:
    # The worker is a process of its own: what is patched here must be in the class that it imports, so the
    # poison is a token id outside the vocabulary, put in by the tokeniser's own added tokens.
    poison = _poison_tokenizer(site)
    site.write([("good", "solar", "panels"), ("bad", "name", f"{poison} {MARK}"), ("fine", "payments", "banks")])
    result = site.night()
    assert result["counts"] == {"ok": 2, "error": 1}
    row = site.scores()["bad"]
    assert (row["status"], row["error"], row["logits"]) == ("error", "scoring this text alone raised IndexError", None)
    printed = capfd.readouterr()
    assert MARK not in printed.out + printed.err + jvm_log()
    monkeypatch.setattr(stage_module, "scoring_udf", None)
    assert site.night()["outcome"] == "nothing_to_do"


def _poison_tokenizer(site: Site) -> str:
    """Make a champion whose tokeniser knows a word that its embeddings do not."""
    import json

    from ptec_udf.model.artifact import load_artifact
    from ptec_udf.model.artifact_format import MANIFEST, seal
    from ptec_udf.model.backbone import resolve
    from ptec_udf.warehouse import registry
    from tests.tiny import tiny_artifact

    folder = tiny_artifact(site.folder / "poisoned", "bert", "deep", seed=9)
    loaded = load_artifact(folder)
    backbone = resolve(loaded.manifest.backbone.name)
    file = backbone.folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"]["poisonword"] = 99_999
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    named = loaded.manifest.backbone.model_copy(update={"content_hash": backbone.content_hash()})
    others = {name: data for name, data in loaded.files.items() if name != MANIFEST}
    _, manifest = seal(loaded.manifest.model_copy(update={"backbone": named}), others)
    (folder / MANIFEST).write_bytes(manifest)
    model_id = registry.register(site.warehouse, folder, site.folder / "keep", "poisoned")
    registry.promote(site.warehouse, model_id, alias="champion", who="test", why="", check=lambda *_: None)
    return "poisonword"
