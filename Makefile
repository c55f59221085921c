# Two commands matter: `make repro` runs the pipeline, `make test` proves that it works. Both set up what they need first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Stages are started as `python` by DVC: this one, not another on the PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup repro test test-all test-share test-containers audit lint ui clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/installed ## the environment alone

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "slimline needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

repro: setup ## run what is stale of the pipeline, then show the result
	$(BIN)/slimline check
	$(BIN)/slimline repro
	@$(BIN)/slimline show

test: setup ## the fast tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-all: setup ## every test, the slow ones too
	$(BIN)/python -m pytest -m ""

test-share: setup ## every n-th of the slow tests: make test-share SHARE=0/4
	$(BIN)/python -m pytest -m slow --share $(or $(SHARE),0/1) || [ $$? -eq 5 ]

test-containers: setup ## the image and what it runs, on this machine's container engine (DOCKER names the client)
	SLIMLINE_CONTAINERS=1 $(BIN)/python -m pytest -m slow -x tests/container

audit: ## the pinned packages against the advisories that PyPI knows of; --strict: a package that cannot be looked up is no clean one
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements.lock -r deploy/services.txt

lint: setup ## format, lint, types, import floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

ui: setup ## MLflow's pages, on this experiment: http://127.0.0.1:5000
	@$(BIN)/slimline ui

clean: ## remove the environment, caches and what the pipeline made; data/raw and the runs in mlflow.db stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache src/*.egg-info dvc_plots
	git clean -fdXq data/prepared models metrics plots reports .slimline .dvc/cache .dvc/tmp
