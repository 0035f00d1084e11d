# Every target builds what it needs in .venv; a second run only looks at the stamp files.
# PYTHON=... names another interpreter for a new .venv; DEMO_ARGS=... is handed to `ptec demo`.

SHELL := /bin/sh
PYTHONS := python3.13 python3.12 python3.11 python3
BIN := .venv/bin
DEMO := .venv/.installed-demo
DEV := .venv/.installed-dev
# Named by the Java that made the archive, of which there is one: another Java passes it over, and does not say so.
WARM := .venv/.warm-spark-$(shell "$${JAVA_HOME:+$$JAVA_HOME/bin/}java" -version 2>&1 | cksum | cut -d ' ' -f 1)
.DEFAULT_GOAL := help
.NOTPARALLEL:
# Two processes; a file's tests stay in one. Files go in the order given, and each process has a Spark session of its own.
IN_TWO := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile
ON_SPARK := $(IN_TWO) --no-loadscope-reorder tests/e2e tests/faults tests/spark

.PHONY: help demo test test-long test-unit test-spark test-documents lint audit wheel wheel-check clean java

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: java $(DEMO)  ## train a small model and score the shipped companies for two nights, on this machine (DEMO_ARGS="--folder x")
	@$(BIN)/ptec demo $(DEMO_ARGS)

test: java $(DEV) lint audit wheel-check test-unit $(WARM)  ## all that CI runs
	@$(ON_SPARK) -m "not long"

test-long: java $(WARM)  ## the tests that `make test` leaves out: the pages' commands, benchmarks, deliveries; an hour or more
	@$(ON_SPARK) -m long

test-unit: $(DEV)  ## tests without Spark, in seconds
	@OMP_NUM_THREADS=1 $(IN_TWO) tests/unit

test-spark: java $(WARM)  ## tests on Spark, and the commands end to end
	@$(ON_SPARK) -m "not long" --ignore=tests/e2e/test_documents.py

test-documents: java $(DEV)  ## run every command that the pages show, in their order
	@$(BIN)/python -m pytest tests/e2e/test_documents.py

lint: $(DEV)  ## ruff and mypy; changes nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

audit: $(DEV)  ## compare what is installed with known vulnerabilities; without a network it says so
	@$(BIN)/python .ci/audit.py

wheel: $(DEV)  ## build dist/*.whl, the file for an executor's environment, and dist/sbom.cdx.json, what it needs
	@rm -rf build dist
	@$(BIN)/python -m build --quiet --wheel --no-isolation
	@$(BIN)/python -m cyclonedx_py environment --output-format JSON --output-file dist/sbom.cdx.json $(BIN)/python
	@ls dist/*

wheel-check: wheel  ## install the wheel away from the checkout, import all of it and run ptec
	@$(BIN)/python .ci/check_wheel.py dist/*.whl

clean:  ## remove .venv and what was built
	@rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

# A pyenv shim exists for versions that it cannot run, and some systems ship Python without venv: so each one is tried.
$(BIN)/python:
	@for python in $(or $(PYTHON),$(PYTHONS)); do \
	  "$$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue; \
	  echo "creating .venv with $$("$$python" --version)"; exec "$$python" -m venv --clear .venv; \
	done; \
	echo "No Python 3.11, 3.12 or 3.13 with venv among: $(or $(PYTHON),$(PYTHONS)); install one or name it: make PYTHON=/path/to/python3.12" >&2; exit 1

# The stamp comes last, so that an installation which was interrupted is done again.
$(DEMO): $(BIN)/python setup.py
	@echo "installing the demo's packages into .venv (the first time some minutes, and about 5 GB to download)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet -e '.[demo]'
	@touch $@

$(DEV): $(BIN)/python setup.py
	@echo "installing the developer's packages into .venv (the first time some minutes, and about 5 GB to download)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $(DEMO) $@

$(WARM): $(DEV) conf/spark-defaults.conf .ci/warm_spark.py
	@rm -f .venv/.warm-spark*
	@$(BIN)/python .ci/warm_spark.py
	@touch $@

# Spark takes JAVA_HOME first and does not fall back, so neither does this.
java:
	@java="$${JAVA_HOME:+$$JAVA_HOME/bin/}java"; \
	version=$$("$$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p'); \
	[ "$${version:-0}" -ge 17 ] || { \
	  echo "Spark needs Java 17 or newer, found $${version:-none} at $$java: install openjdk-17-jre-headless (or your system's like) or point JAVA_HOME to it" >&2; exit 1; }
