"""A night with too many errors merges nothing, says which they are, and goes on from what it has scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptec_udf.config import ScoreConfig
from ptec_udf.config_file import load_config
from ptec_udf.errors import ErrorBudgetError, RemovalBudgetError
from ptec_udf.monitor.failures import KEPT, STANDING, list_errors
from ptec_udf.nightly import stage as stage_module
from ptec_udf.nightly.diff import AMBIGUOUS_KEY
from ptec_udf.warehouse.tables import Warehouse
from tests.spark.nights import Site, companies
from tests.tiny import LABELS

N_TWICE = 12
SECRET = "zqxsecret"


@pytest.fixture
def site(warehouse: Warehouse, tmp_path: Path) -> Site:
    """Twelve of 40 companies stand in the source twice, with different texts."""
    made = Site(warehouse, tmp_path)
    made.champion()
    rows = companies(30)
    made.write([*rows, *[(key, name, f"{about} {SECRET}") for key, name, about in rows[:N_TWICE]]])
    return made


def errors(site: Site, n_keys: int = 3) -> list[dict]:
    overrides = [f"warehouse.database={site.warehouse.database}", f"source.table={site.table}"]
    return list_errors(site.spark, load_config(ScoreConfig, None, overrides), n_keys)["errors"]


def test_too_many_errors_stop_the_night_before_its_merge(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ErrorBudgetError, match="12 of 40 companies have errors, max_error_fraction allows") as raised:
        site.night()
    assert f"12 without a score: {AMBIGUOUS_KEY}; keys 'c0000', 'c0001'" in str(raised.value)
    assert SECRET not in str(raised.value) + capsys.readouterr().err
    assert site.scores() == {}
    assert site.rows("score_changes") == []
    assert site.warehouse.read("score_staging").count() == 28  # kept
    (run,) = site.warehouse.read("runs").collect()
    assert raised.value.run_id == run["run_id"]
    assert (run["outcome"], run["error"], run["counts"]) == ("failed", "more than 0.1 have errors", {"error": 12})
    kept = {"where": KEPT, "error": AMBIGUOUS_KEY, "companies": 12, "keys": ["c0000", "c0001", "c0002"]}
    assert errors(site) == [kept]


@pytest.mark.long
def test_errors_may_be_accepted_and_nothing_is_scored_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ErrorBudgetError):
        site.night()
    monkeypatch.setattr(stage_module, "scoring_udf", None)
    assert site.night("max_error_fraction=1")["counts"] == {"ok": 28, "error": 12}
    assert [(one["where"], one["companies"]) for one in errors(site)] == [(STANDING, 12)]


@pytest.mark.long
def test_a_small_night_may_have_some_errors(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert site.night("max_error_fraction=0.12")["counts"] == {"ok": 28, "error": 12}
    assert f"warning: 12 without a score: {AMBIGUOUS_KEY}" in capsys.readouterr().err


@pytest.mark.long
def test_errors_that_last_do_not_keep_away_what_a_retry_mends(site: Site) -> None:
    site.night("max_error_fraction=1")
    assert site.night("retry_errors=true", "max_error_fraction=0")["counts"] == {"error": 12}
    site.correct(*((f"c{at:04d}", LABELS[0], True) for at in range(N_TWICE)))
    assert site.night("max_error_fraction=0")["counts"] == {"error": 12}


@pytest.mark.parametrize("first", [(), ("retry_errors=true",)], ids=["night", "retry"])
def test_errors_of_a_night_that_was_stopped_are_listed_and_tried_again(site: Site, first: tuple[str, ...]) -> None:
    with pytest.raises(ErrorBudgetError):
        site.night(*first)
    staged = site.warehouse.name("score_staging")
    one_text = site.warehouse.read("score_staging").first()["text_hash"]
    failed = "logits = NULL, status = 'error', error = 'logits are not finite'"  # as with an arithmetic that is mended
    site.spark.sql(f"UPDATE {staged} SET {failed} WHERE text_hash = '{one_text}'")
    kept = [(one["where"], one["error"], one["companies"]) for one in errors(site)]
    assert kept == [(KEPT, AMBIGUOUS_KEY, 12), (KEPT, "logits are not finite", 1)]
    assert site.night("retry_errors=true", "max_error_fraction=1")["counts"] == {"ok": 28, "error": 12}


def test_mended_source_leaves_no_error(site: Site) -> None:
    site.night("max_error_fraction=1")
    site.write(companies(30))
    assert site.night("max_error_fraction=0")["counts"] == {"ok": 12}
    assert errors(site) == []


def test_a_source_that_lacks_most_companies_is_taken_for_half_written(site: Site) -> None:
    site.write(companies())
    assert site.night()["outcome"] == "done"
    before = site.rows("scores"), site.rows("score_changes")
    site.write(companies()[:8])
    with pytest.raises(RemovalBudgetError, match="62 of 70 companies are gone from the source"):
        site.night()
    assert (site.rows("scores"), site.rows("score_changes")) == before
    (failed,) = site.warehouse.read("runs").where("outcome = 'failed'").collect()
    assert failed["error"] == "more than 0.5 are gone"
    assert site.night("max_removed_fraction=1")["counts"] == {"removed": 62}
