"""Executors without the package get it with the job: as a zip in py-files, or an environment in archives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.faults.run import ON_EXECUTORS
from tests.processes import ROOT, TIMEOUT_S

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("delivery") / "site"
    command = [sys.executable, "-m", "tests.prepare", str(folder), "60"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=TIMEOUT_S, capture_output=True)
    shutil.copytree(folder / "warehouse", folder / "before")
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with all packages but ours: a path line does not make an editable install work."""
    folder = tmp_path_factory.mktemp("bare") / "env"
    return _environment(folder, sysconfig.get_path("purelib"))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with all packages and this checkout."""
    folder = _environment(tmp_path_factory.mktemp("driver") / "env", sysconfig.get_path("purelib"), str(ROOT))
    (_site_packages(folder) / "ptec_conf").symlink_to(ROOT / "conf")  # as setup.py places it
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of this checkout: building leaves files in the source folder."""
    folder = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "docs", "tests", "benchmarks")
    shutil.copytree(ROOT, folder / "source", ignore=left_out)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "source")
    (built,) = folder.glob("*.whl")
    return built


def _pip(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True, timeout=TIMEOUT_S)


def _environment(folder: Path, *paths: str) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (_site_packages(folder) / "paths.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
    return folder


def _site_packages(environment: Path) -> Path:
    return next((environment / "lib").glob("python*")) / "site-packages"


def score(site: Path, driver: Path, python: str, **spark: Any) -> subprocess.CompletedProcess[str]:
    """Score on two executors with their own Python."""
    shutil.rmtree(site / "warehouse")
    shutil.copytree(site / "before", site / "warehouse")
    # An embedded session sets a daemon module of ours, which these workers lack at their start.
    settings = {"spark.python.daemon.module": "pyspark.daemon"} | {
        f"spark.{name}": value for name, value in spark.items()
    }
    options = ["--set", ON_EXECUTORS, "--set", f"warehouse.spark={json.dumps(settings)}", "--json"]
    command = ["-c", "from ptec_jobs.cli import main; main()", "score", "--config", "ptec.yaml", *options]
    mine = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [driver / "bin" / "python", *command],
        cwd=site,
        env=mine | {"PYSPARK_PYTHON": python},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def counts_of(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["counts"]


def test_without_the_package_the_module_is_named(site: Path, driver: Path, bare: Path) -> None:
    done = score(site, driver, str(bare / "bin" / "python"))
    assert done.returncode == 1
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "workers that lack the Python module 'ptec_udf" in error


def test_zip_in_py_files(site: Path, driver: Path, bare: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "ptec_udf", tmp_path / "zip" / "ptec_udf", ignore=shutil.ignore_patterns("__pycache__"))
    packed = shutil.make_archive(str(tmp_path / "ptec"), "zip", tmp_path / "zip")
    done = score(site, driver, str(bare / "bin" / "python"), **{"submit.pyFiles": packed})
    assert counts_of(done) == {"ok": 70}


def test_environment_in_archives(site: Path, driver: Path, wheel: Path, tmp_path: Path) -> None:
    environment = _environment(tmp_path / "env", sysconfig.get_path("purelib"))
    _pip("install", "--no-deps", "--target", _site_packages(environment), wheel)
    packed = tmp_path / "env.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(environment, ".")
    shutil.rmtree(environment)
    done = score(site, driver, "./environment/bin/python", archives=f"{packed}#environment")
    assert counts_of(done) == {"ok": 70}
