"""The dashboard shows in a browser what SQL returns: screens, history and reasons; names are never HTML."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from ptec_udf.warehouse.duck import connect
from tests.e2e.changed_site import make_site
from tests.processes import ROOT, environment

pytestmark = pytest.mark.long

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOSTILE = "</script><img src=x onerror=\"document.title='run'\"> & Söhne"
KEYS = "return [...document.querySelectorAll('#screen tbody tr')].map(row => row.dataset.key)"
SLIDE = """const slider = document.getElementById('minimum');
slider.value = arguments[0]; slider.dispatchEvent(new Event('input'))"""
HISTORY = """return [...document.querySelectorAll('#history tr[data-run]')].map(
  row => [row.dataset.run, ...[...row.cells].slice(1, 3).map(cell => Number(cell.textContent.replace(/\\D/g, '')))])"""
OPEN_COMPANY = """for (const button of document.querySelectorAll('#history [aria-expanded]')) button.click();
[...document.querySelectorAll('#history .list button')].find(button => button.textContent === arguments[0]).click()"""
REASONS = """return [...document.querySelectorAll('#why tbody tr')].map(
  row => [...row.cells].slice(1, 3).map(cell => cell.textContent))"""
WIDTHS = "return [document.documentElement.scrollWidth, innerWidth]"
WORDS = {"text": "its text changed", "new": "new company", "correction": "an analyst's correction"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_site(tmp_path_factory.mktemp("dashboard") / "site")
    source = DeltaTable(folder / "warehouse" / "ptec" / "companies")
    name = HOSTILE.replace("'", "''")
    source.update(predicate=f"key = '{moved(folder)[0]}'", updates={"name": f"'{name}'"})
    command = [sys.executable, str(ROOT / "examples" / "dashboard" / "dashboard.py"), "--min-probability", "0.3"]
    subprocess.run(command, cwd=folder, env=environment(), check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if found is None or driver is None:
        pytest.skip("no browser on this machine: install chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = found
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as opened:
        yield opened


def moved(site: Path) -> tuple[str, str]:
    """A company that entered a label when its text changed, and the label."""
    query = "SELECT key, label FROM why_changed WHERE entered AND reason = 'text' ORDER BY key, label LIMIT 1"
    (found,) = connect(site / "warehouse").sql(query).fetchall()
    return found


@pytest.fixture(scope="module")
def label(site: Path) -> str:
    return moved(site)[1]


@pytest.fixture
def page(site: Path, browser: Any, label: str) -> Any:
    browser.get("about:blank")
    browser.get(f"{(site / 'dashboard.html').as_uri()}#label={label}")
    yield browser
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def _keys(site: Path, label: str, minimum: str) -> list[str]:
    query = f"SELECT key FROM screen('{label}', {minimum}) ORDER BY probability DESC, key"
    return [key for (key,) in connect(site / "warehouse").sql(query).fetchall()]


def test_screen_is_that_of_sql(page: Any, site: Path, label: str) -> None:
    shown = page.execute_script(KEYS)
    assert sorted(shown) == sorted(_keys(site, label, "NULL")) != []
    found = {}
    for minimum in ("0.4", "0.7"):
        page.execute_script(SLIDE, minimum)
        found[minimum] = sorted(page.execute_script(KEYS))
        assert found[minimum] == sorted(_keys(site, label, minimum))
        assert f"('{label}', {minimum})" in page.find_element("id", "sql").text
    assert len(found["0.4"]) > len(found["0.7"])
    page.find_element("id", "reset").click()
    assert page.execute_script(KEYS) == shown


def test_search_finds_a_name_that_is_not_html(page: Any, site: Path) -> None:
    page.find_element("id", "filter").send_keys("</SCRIPT><img")
    assert page.execute_script(KEYS) == [moved(site)[0]]
    assert page.find_element("css selector", "#screen tbody button").text == HOSTILE
    assert (page.title, page.find_elements("tag name", "img")) == ("Company screens", [])


def test_history_and_reasons_are_those_of_sql(page: Any, site: Path, label: str) -> None:
    warehouse = connect(site / "warehouse")
    query = f"""SELECT run_id, count_if(move = 'entered') AS n_entered, count_if(move = 'left') AS n_left
        FROM screen_history WHERE label = '{label}' GROUP BY run_id, changed_at ORDER BY changed_at DESC"""
    expected = [list(row) for row in warehouse.sql(query).fetchall()]
    assert [row for row in page.execute_script(HISTORY) if row[1:] != [0, 0]] == expected
    assert any(entered and left for _, entered, left in expected)
    page.execute_script(OPEN_COMPANY, HOSTILE)
    reasons = f"SELECT label, entered, reason FROM why_changed('{moved(site)[0]}') ORDER BY changed_at DESC, label"
    moves = [
        [f"{'▲ entered' if entered else '▼ left'} {name}", WORDS[reason]]
        for name, entered, reason in warehouse.sql(reasons).fetchall()
    ]
    assert page.execute_script(REASONS) == moves
    assert WORDS["text"] in {reason for _, reason in moves}


@pytest.mark.parametrize("width", [420, 1280])
def test_page_fits_in_light_and_dark(page: Any, width: int) -> None:
    backgrounds = set()
    for scheme in ("light", "dark"):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        scrolled, inner = page.execute_script(WIDTHS)
        assert scrolled <= inner == width
        backgrounds.add(page.find_element("tag name", "body").value_of_css_property("background-color"))
    assert len(backgrounds) == 2
