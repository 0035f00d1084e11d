# Each target builds what it needs in .venv; a second run only compares stamp files.
# PYTHON=... names another interpreter for a new .venv; DEMO_ARGS=... is passed to `ptec demo`.

SHELL := /bin/sh
PYTHONS := python3.13 python3.12 python3.11 python3
BIN := .venv/bin
DEMO := .venv/.installed-demo
DEV := .venv/.installed-dev
LONG := .venv/.installed-long
# Named by the Java that made the archive: another Java ignores it without a message.
WARM := .venv/.warm-spark-$(shell "$${JAVA_HOME:+$$JAVA_HOME/bin/}java" -version 2>&1 | cksum | cut -d ' ' -f 1)
.DEFAULT_GOAL := help
.NOTPARALLEL:
# Two processes, each with a Spark session of its own; the tests of a file share one. Files run in the order given.
IN_TWO := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile
FAST_START := -XX:SharedArchiveFile=.venv/classes.jsa -Xlog:cds=off -Xlog:cds+dynamic=off
SPARK_TESTS := --no-loadscope-reorder tests/e2e tests/faults tests/spark tests/documents
# Without compiled files each process compiles torch and transformers anew. Some containers set the variable.
unexport PYTHONDONTWRITEBYTECODE
# uv installs in a fraction of pip's time; where it is missing, pip does. Both trust the certificates of the system.
export UV_SYSTEM_CERTS ?= true
INSTALL = if [ -x $(BIN)/uv ]; then $(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[$(1)]'; \
  else $(BIN)/python -m pip install --quiet -e '.[$(1)]'; fi

.PHONY: help demo docs test test-long test-unit test-spark reference lint types audit wheel wheel-check clean java

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: java $(DEMO) $(WARM)  ## train a small model and score fictional companies, on this machine (DEMO_ARGS="--folder x")
	@SPARK_SUBMIT_OPTS="$${SPARK_SUBMIT_OPTS:-$(FAST_START)}" $(BIN)/ptec demo $(DEMO_ARGS)

test: test-unit test-spark  ## the tests that CI runs

test-unit: $(DEV)  ## tests without Spark
	@OMP_NUM_THREADS=1 $(IN_TWO) -m "not long" tests/unit

test-spark: java $(DEV) $(WARM)  ## tests on Spark, and commands end to end
	@$(IN_TWO) $(SPARK_TESTS) -m "not long" --durations 15

test-long: java $(LONG) $(WARM)  ## tests that `make test` leaves out: all kill points, other readers, deliveries, pages
	@OMP_NUM_THREADS=1 $(IN_TWO) $(SPARK_TESTS) tests/unit -m long

docs: $(LONG)  ## build the site of the pages into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

reference: $(DEV)  ## write conf/ptec.yaml and docs/reference from the code
	@$(BIN)/python docs/generate.py

lint: $(DEV)  ## ruff; changes nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(DEV)  ## mypy
	@$(BIN)/mypy

audit: $(DEV)  ## compare installed packages with known vulnerabilities; passes without a network
	@$(BIN)/python .ci/audit.py

wheel: $(DEV)  ## build dist/*.whl, the file for an executor's environment, and dist/sbom.cdx.json, its dependencies
	@rm -rf build dist
	@$(BIN)/python -m build --quiet --wheel --no-isolation
	@$(BIN)/python -m cyclonedx_py environment --output-format JSON --output-file dist/sbom.cdx.json $(BIN)/python
	@ls dist/*

wheel-check: wheel  ## install the wheel outside the checkout, import all of it and run ptec
	@$(BIN)/python .ci/check_wheel.py dist/*.whl

clean:  ## remove .venv and what was built
	@rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

# Each one is tried: a pyenv shim may name a version that is not there, and some systems have Python without venv.
$(BIN)/python:
	@for python in $(or $(PYTHON),$(PYTHONS)); do \
	  "$$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue; \
	  echo "creating .venv with $$("$$python" --version)"; \
	  "$$python" -m venv --clear .venv && { $(BIN)/python -m pip install --quiet uv || true; }; exit; \
	done; \
	echo "No Python 3.11, 3.12 or 3.13 with venv among: $(or $(PYTHON),$(PYTHONS)); install one or set PYTHON=/path/to/python3.12" >&2; exit 1

# The stamp comes last, so that an interrupted installation is repeated.
$(DEMO): $(BIN)/python setup.py
	@echo "installing the demo's packages into .venv (the first time some minutes, about 5 GB)"
	@$(call INSTALL,demo)
	@touch $@

$(DEV): $(BIN)/python setup.py
	@echo "installing the developer's packages into .venv (the first time some minutes, about 5 GB)"
	@$(call INSTALL,dev)
	@mkdir -p .venv/names
	@for name in training jobs conf; do ln -sfn "../../$$name" ".venv/names/ptec_$$name"; done
	@touch $(DEMO) $@

$(LONG): $(DEV)
	@$(call INSTALL,long)
	@touch $@

$(WARM): conf/spark-defaults.conf .ci/warm_spark.py | $(DEMO)
	@rm -f .venv/.warm-spark*
	@echo "preparing Spark: its jars are fetched and Java's classes archived (about a minute)"
	@$(BIN)/python .ci/warm_spark.py
	@touch $@

# Spark takes JAVA_HOME first and does not fall back, so neither does this.
java:
	@java="$${JAVA_HOME:+$$JAVA_HOME/bin/}java"; \
	version=$$("$$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p'); \
	[ "$${version:-0}" -ge 17 ] || { \
	  echo "Spark needs Java 17 or newer, found $${version:-none} at $$java: install openjdk-17-jre-headless (or your system's package) or set JAVA_HOME" >&2; exit 1; }
