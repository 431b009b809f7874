.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCHES := validator listing appends dispatch followers storage retention gateway inference first_token start_up running training
MINUTES ?= 10
SEED ?= 1
STAMP := $(VENV)/.installed
PIP := $(VENV)/.pip-26.1.2

help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## Make .venv with every pinned package

$(PIP):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tunesmith needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check 'pip==26.1.2'
	touch $@

$(STAMP): requirements.lock requirements-nodeps.lock pyproject.toml | $(PIP)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-nodeps.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(STAMP) ## Fine-tune a real model and chat with it, start to end
	$(BIN)/tunesmith demo

up: $(STAMP) ## Start the whole stack
	$(BIN)/tunesmith up

# The tests start hundreds of processes; where bytecode may not be written, each would compile everything anew.
test: export PYTHONDONTWRITEBYTECODE =
test: ## Lint, then every test, two files at a time
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint clients collect
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Both test processes import everything; what is compiled once before takes no time from either.
collect: $(STAMP)
	-@$(BIN)/python -m pytest --collect-only -qqq > /dev/null

bench: $(STAMP) ## Measure everything beside its peers, and kill training everywhere (an hour; MINUTES=10 and SEED=1 of faults)
	$(BIN)/pip install --quiet --disable-pip-version-check --group bench
	TUNESMITH_EVERY_KILL_POINT=1 $(BIN)/python -m pytest -q tests/integration/training/test_resume.py -k dies_anywhere
	for bench in $(BENCHES); do PYTHONPATH=. $(BIN)/python -m tests.bench.$$bench || exit 1; done
	PYTHONPATH=. $(BIN)/python -m tests.bench.faults --minutes $(MINUTES) --seed $(SEED)
	PYTHONPATH=. $(BIN)/python -m tests.bench.faults --minutes $(MINUTES) --seed $(SEED) --strict
	PYTHONPATH=. $(BIN)/python -m tests.bench.faults --minutes $(MINUTES) --seed $(SEED) --outage

clients: $(PIP) ## Make the environments of other people's clients that tests/compat runs
	$(BIN)/python -m tests.compat.environments

lint: $(STAMP) ## ruff, mypy, import-linter, buf, fresh stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format -d --exit-code
	cd protos && ../$(BIN)/buf breaking --against baseline.binpb
	$(BIN)/python tests/contract/fresh_stubs.py

format: $(STAMP) ## Format the code and the protos
	$(BIN)/ruff format . && $(BIN)/ruff check --fix . && cd protos && ../$(BIN)/buf format -w

protos: $(STAMP) ## Regenerate the stubs under tunesmith/v1
	$(BIN)/python protos/generate.py

docs: $(STAMP) ## Regenerate docs/reference
	PYTHONPATH=. $(BIN)/python docs/generate.py

lock: ## Resolve requirements.lock anew from pyproject.toml
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet 'pip==26.1.2'
	.venv-lock/bin/pip install --quiet hatchling editables -e '.[local]' --group dev
	.venv-lock/bin/pip freeze --exclude-editable --all | sed -E 's/\+cpu//' | grep -v '^pip==' > requirements.lock
	rm -rf .venv-lock

clean: ## Remove .venv and caches
	rm -rf $(VENV) .venv-compat .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

.PHONY: help setup demo up test collect clients bench lint format protos docs lock clean
