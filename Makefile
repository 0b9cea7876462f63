# kubeq: every target says what it does; `make help` lists them.
SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
TESTS ?=
# For a machine that was busy; what passed only then is listed as RERUN. Not for the queue: see tests/conftest.py.
AGAIN := --reruns 1
# Twice what a small machine has processors, as a test waits as long as it works: for leases, processes and servers.
WORKERS ?= 4
SHARED = -n $(WORKERS) --dist worksteal $(AGAIN)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types imports parts unit contract model cli e2e images agent-image engine bench clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "kubeq needs Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(VENV)/installed ## Install kubeq and the developers' tools into .venv

engine: ## Start a Docker engine here if none answers (installs Debian's if need be and allowed)
	@images/engine.sh

images: $(VENV)/installed engine ## Build the base and the example images (from this machine's files where no registry answers)
	@$(BIN)/python images/base/build.py
	@$(BIN)/python images/base/build.py --minimal

agent-image: $(VENV)/installed engine ## Build the image of the agent, for machines that have Docker and no Python
	@$(BIN)/python images/consumer/build.py

demo: $(VENV)/installed ## Run the main job: the Mandelbrot sweep, from nothing to fetched pictures and a contact sheet
	@examples/mandelbrot/demo.sh

format: $(VENV)/installed ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

lint: $(VENV)/installed ## Check format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/installed ## Check types (mypy --strict)
	$(BIN)/mypy

imports: $(VENV)/installed ## Check who imports whom
	$(BIN)/lint-imports

unit contract model cli: $(VENV)/installed ## One test suite
	$(BIN)/pytest tests/$@ $(TESTS)

check: lint types imports parts ## Format, lint, types, import contracts, and unit, contract, model and cli tests

parts: $(VENV)/installed
	@images/engine.sh || [ "$$CI" != true ]
	$(BIN)/pytest $(SHARED) tests/test_architecture.py tests/unit tests/contract tests/model tests/cli $(TESTS)

e2e: $(VENV)/installed ## The real command line and real agents, with real Docker
	@images/engine.sh || [ "$$CI" != true ]
	$(BIN)/pytest $(SHARED) tests/e2e -m 'not live and not alone' $(TESTS)
	$(BIN)/pytest $(AGAIN) tests/e2e -m 'not live and alone' $(TESTS) || [ $$? = 5 ]

test: $(VENV)/installed ## Everything that must hold
	@$(MAKE) --no-print-directory --jobs 2 check
	@$(MAKE) --no-print-directory e2e

bench: $(VENV)/installed engine ## Measure against peers, side by side; prints ratios
	$(BIN)/python -m bench

clean: ## Remove what the targets above made here
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo-out
