"""Install a wheel away from the checkout, import every module of it and run its command.

Run by ``make wheel-check``. The fresh environment sees the packages of the running one, but not its
editable install, so that only the wheel can serve ``ptec_udf``, ``ptec_training``, ``ptec_jobs`` and
``ptec_conf``.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"ptec_udf": "ptec_udf", "ptec_training": "training", "ptec_jobs": "jobs", "ptec_conf": "conf"}

IMPORT_ALL = """
import importlib, pkgutil, sys
folder, blocked = sys.argv[1], sys.argv[4:]
sys.modules.update(dict.fromkeys(blocked))
count = 0
for name in sys.argv[2].split(","):
    package = importlib.import_module(name)
    assert package.__file__.startswith(folder), f"{name} comes from {package.__file__}, not from the wheel"
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(module.name)
        count += 1
context = sys.modules.get("pyspark.core.context")
assert context is None or context.SparkContext._active_spark_context is None, "an import started Spark"
print(f"imported {count} modules {sys.argv[3]}")
"""


def missing_files(wheel: Path) -> list[str]:
    """Name the files of the packages' folders that the wheel lacks."""
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"{package}/{file.relative_to(ROOT / folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and file.suffix != ".pyc" and not file.name.startswith(".")
    }
    return sorted(wanted - packed)


def install(wheel: Path, folder: Path) -> Path:
    """Create an environment in ``folder`` with the wheel in it; return its folder of programs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    programs = folder / "bin"
    site = subprocess.run(
        [programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    # A path line shows the packages of that folder without running its .pth files, which contain the editable install.
    Path(site, "packages.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", "--ignore-installed", wheel], check=True)
    return programs


def main() -> None:
    """Check one wheel; exit with a message at the first error."""
    wheel = Path(sys.argv[1]).resolve()
    if missing := missing_files(wheel):
        sys.exit(f"{wheel.name} lacks {', '.join(missing)}: add the pattern to package_data in setup.py")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        programs = install(wheel, folder / "env")

        def run(program: str, *arguments: str | Path) -> None:
            if code := subprocess.run([programs / program, *arguments], cwd=folder).returncode:
                sys.exit(f"{wheel.name} is broken: {program} ended with {code}, see above")

        run("python", "-c", IMPORT_ALL, folder, ",".join(PACKAGES), "from the wheel")
        run("python", "-c", IMPORT_ALL, folder, "ptec_udf", "without the extras of training", "peft", "sklearn")
        run("ptec", "--help")
        run("ptec", "init", "--full")
    print(f"{wheel.name} is complete")


if __name__ == "__main__":
    main()
