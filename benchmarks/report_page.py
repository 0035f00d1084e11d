"""How large a night's report is, how long a browser takes to open it, and how its first screen looks.

Run it so, with Chromium installed::

    ptec report --config score.yaml --out report.html
    python -m benchmarks.report_page report.html --out docs/benchmarks/report

Opening is timed from the browser's start to its end, in turn with that of an empty page.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.common import OutOption, RepeatsOption, run, table
from benchmarks.machine import write_results
from ptec_udf.errors import ConfigError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = {"wide": 1280, "narrow": 390}
_HEIGHT = 900
_SCHEMES = {"dark": 0, "light": 1}  # as Blink numbers them
_TIMEOUT_S = 120

app = typer.Typer(add_completion=False)


@app.command()
def look(
    page: Annotated[Path, typer.Argument(help="A file that ptec report wrote.")],
    repeats: RepeatsOption = 5,
    out: OutOption = Path("docs/benchmarks/report"),
) -> None:
    """Open the page and an empty one in turn, and take pictures at two widths, light and dark."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise ConfigError(f"one of {', '.join(BROWSERS)} must be installed")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.html"
        empty.write_text("<!doctype html><title>empty</title>", encoding="utf-8")
        seconds: dict[Path, list[float]] = {empty: [], page: []}
        for _ in range(repeats):
            for file, taken in seconds.items():
                taken.append(_open(browser, file, "--dump-dom"))
    for width, pixels in WIDTHS.items():
        for scheme, number in _SCHEMES.items():
            picture = (out / f"{width}_{scheme}.png").resolve()
            window = f"--window-size={pixels},{_HEIGHT}"
            colours = f"--blink-settings=preferredColorScheme={number}"
            _open(browser, page, f"--screenshot={picture}", window, colours, "--hide-scrollbars")
    kilobytes, labels = page.stat().st_size / 1000, n_labels(page.read_text(encoding="utf-8"))
    found = {"empty page": statistics.median(seconds[empty]), "report": statistics.median(seconds[page])}
    lines = table(
        ["page", "labels", "kB", "browser's start to end, s (median)"],
        [
            ["empty", "0", "0", f"{found['empty page']:.2f}"],
            ["report", str(labels), f"{kilobytes:.0f}", f"{found['report']:.2f}"],
        ],
    )
    write_results(out, {"labels": labels, "kilobytes": kilobytes, "seconds": found, "repeats": repeats}, lines)


def n_labels(page: str) -> int:
    """Count the labels of a report, by the table that has a row for each of them."""
    found = re.search(r"share of companies</th>.*?</table>", page, re.DOTALL)
    return found[0].count('<th scope="row"') if found else 0


def _open(browser: str, page: Path, *options: str) -> float:
    """Open a page and return how many seconds it took, with the browser's start and end."""
    # Without a sandbox, which a container's root has not: the page is our own.
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", *options, page.resolve().as_uri()]
    begun = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)
    return time.monotonic() - begun


if __name__ == "__main__":
    run(app)
