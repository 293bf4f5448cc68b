# What a fresh machine needs: Python 3.11 or newer, and make. `make help` lists the targets.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
  $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
KEEP ?=
CSV ?=
# Test processes; each has Kafkas of its own, some 2 GB in all. They mostly wait, for brokers and workers.
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint chaos bench requirements clean

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: .venv/requirements.stamp ## the virtual environment in .venv, from hashed requirements

# Rebuilt in place only when the requirements change. pip checks every file against its hash.
.venv/requirements.stamp: requirements-dev.txt
	@test -n "$(PYTHON)" || \
	  { echo "Python 3.11 or newer with its venv module is needed. Elsewhere? make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing into .venv (about a minute, once) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

demo: setup ## the main job, from nothing to sums on the screen; KEEP=1 leaves it up, CSV=… plays real invoices
	$(BIN)/python -m worker demo $(if $(KEEP),--keep) $(addprefix --csv ,$(CSV))

test: lint ## everything: lint, types, imports, all tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(PYTEST_ARGS)

lint: setup ## format, lint, types and the direction of imports
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

chaos: setup ## every fault in its long form, judged by the oracle, as a table; CHAOS_ARGS="--seed 7 --only kill-9"
	$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

bench: setup ## how fast it is on this machine
	$(BIN)/python -m benchmarks

requirements: ## exact, hashed versions of what pyproject.toml asks for; needs uv
	uv pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header \
	  --annotation-style line pyproject.toml -o requirements.txt
	uv pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header \
	  --annotation-style line pyproject.toml --extra embedded --extra dev -c requirements.txt -o requirements-dev.txt

clean: ## remove what was built, the environment and local state
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info var
	find worker tests -name __pycache__ -type d -prune -exec rm -rf {} +
