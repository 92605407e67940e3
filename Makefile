# Everything a contributor runs. Each target does its own set-up; on a fresh Debian machine Python 3.11, make and gcc are enough.

VENV   := .venv
PYTHON := $(VENV)/bin/python
# The newest thing that pyproject.toml and the lock ask for is installed when this file exists.
STAMP  := $(VENV)/.installed-$(shell cat pyproject.toml requirements.lock | cksum | cut -d ' ' -f 1)
# Which interpreter makes .venv: `make setup PY=python3.13` for another one.
PY     ?= $(shell command -v python3.11 || command -v python3)
# The dependencies of the project and of every extra that a checkout uses.
EXTRAS := --extra dev --extra test --extra docs
# Tests and measurements start hundreds of processes. They find compiled modules, as those of an installed package do.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup test pythons check format-check lint types imports fmt demo bench docs chaos lock clean

help:  ## Show the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(STAMP)  ## Make .venv with the locked dependencies and the project (again only when they changed).

$(STAMP):
	@test -n "$(PY)" || { echo "No Python found. Install Python 3.11 or newer: apt-get install python3 python3-venv"; exit 1; }
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PY) is too old: Stepwell needs Python 3.11 or newer. Name another one with: make setup PY=..."; exit 1; }
	@test -x $(PYTHON) || $(PY) -m venv $(VENV) || { rm -rf $(VENV); echo "Could not make $(VENV) with $(PY). On Debian: apt-get install python3-venv"; exit 1; }
	@test -x $(VENV)/bin/uv || $(PYTHON) -m pip install --quiet --disable-pip-version-check uv
	$(VENV)/bin/uv pip install --quiet --python $(PYTHON) --compile-bytecode --require-hashes -r requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(PYTHON) --no-deps --editable .
	@rm -f $(VENV)/.installed-*
	@touch $@

test: setup  ## Run the tests. Choose some with: make test ARGS="tests/engine -k lease"
	$(PYTHON) -m pytest $(if $(ARGS),$(ARGS),-n 3 --dist loadfile --no-loadscope-reorder)

check: format-check lint types imports  ## Exactly what CI runs: format, lint, types, import contracts, tests.
	$(MAKE) test
	$(MAKE) pythons

pythons: setup  ## The executor's tests on every other Python, 3.11 to 3.13, that this machine has.
	$(PYTHON) -m tests.executor.every_python $(ARGS)

format-check: setup
	$(VENV)/bin/ruff format --check .

lint: setup
	$(VENV)/bin/ruff check .

types: setup
	$(VENV)/bin/pyright

imports: setup
	$(VENV)/bin/lint-imports --no-cache

fmt: setup  ## Format the code and mend what ruff can mend.
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

demo: setup  ## Run the pipeline on real files, killed twice on the way, and print its timeline and ledger.
	$(VENV)/bin/stepwell demo

chaos: setup  ## The full-length chaos runs (an hour and more); `make test` runs their short form. One seed: ARGS="--seed 7"
	$(PYTHON) -m tests.chaos $(ARGS)
	$(PYTHON) -m tests.chaos.ticks
	$(PYTHON) -m tests.chaos.timetables
	$(PYTHON) -m pytest tests/chaos -m chaos --timeout 3600

bench: setup  ## Measure Stepwell and its peers side by side; prints, never asserts.
	$(PYTHON) -m bench $(ARGS)

docs: setup  ## Build the documentation into site/, with every broken link an error.
	$(VENV)/bin/mkdocs build --strict

lock: setup  ## Resolve the dependencies anew into requirements.lock (see docs/adr/0001).
	$(VENV)/bin/uv pip compile pyproject.toml $(EXTRAS) --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements.lock
	@! grep -nE '[a-z]+://' requirements.lock

clean:  ## Remove .venv, caches and build output. Data under .stepwell/ stays.
	rm -rf $(VENV) $(VENV)-3.* build dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests examples bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
