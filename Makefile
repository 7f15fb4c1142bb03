# `make` alone says what there is. Everything happens in .venv; nothing but Python 3.11, make and (as root) apt-get is
# assumed. A stamp inside .venv remembers which lock file was installed, so that a second run starts at once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev

# What the tests drive for real, as Debian names it: command:package
DEBIAN := prometheus:prometheus promtool:prometheus curl:curl

.DEFAULT_GOAL := help
.PHONY: help run test check e2e bench fmt lock docs protos debian clean

help: ## this list
	@echo "Teal: a model-serving gateway with blue/green deployment"
	@echo
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

run: $(RUN_STAMP) ## install and run the demo: train, register, serve, shift traffic (ARGS=--exit stops at the end)
	@$(BIN)/teal demo $(ARGS)

test: debian check ## install what the tests need and run every one of them
	$(BIN)/python -m pytest $(ARGS)

check: $(DEV_STAMP) ## lint, formatting, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

e2e: debian $(DEV_STAMP) ## only the end-to-end tests: real Envoy, real workers, real command line
	$(BIN)/python -m pytest -m e2e $(ARGS)

bench: $(DEV_STAMP) ## measure everything, half an hour; results in loadtests/results (ARGS="peers swap" for some)
	$(BIN)/python -m loadtests $(ARGS)

fmt: $(DEV_STAMP) ## format and repair what ruff can repair
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV_STAMP) ## write what is generated again: docs/cli.md, docs/limits.md, docs/metrics.md, Grafana's dashboards
	$(BIN)/python -m deploy.cli.reference docs
	$(BIN)/python -m deploy.monitoring

protos: $(DEV_STAMP) ## compile contracts/protos again after editing it
	$(BIN)/python -m grpc_tools.protoc --proto_path contracts/protos --include_imports \
	    --descriptor_set_out contracts/protos/teal.binpb $(sort $(wildcard contracts/protos/*.proto))

lock: $(DEV_STAMP) ## resolve the dependencies again into the two lock files
	$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --generate-hashes --custom-compile-command "make lock" \
	    --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --quiet --extra dev --constraint requirements.lock --generate-hashes \
	    --custom-compile-command "make lock" --output-file requirements-dev.lock

clean: ## remove .venv and what tools left behind; the home .teal stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# Debian splits ensurepip out of python3. A venv that was made without it has no pip: never leave one behind.
$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "teal needs Python 3.11: install it, e.g. apt-get install python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "teal needs Python 3.11 or newer, $(PYTHON) is older; choose another with: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	            python3-venv; \
	    else \
	        echo "this Python has no ensurepip; install it first: sudo apt-get install python3-venv"; exit 1; \
	    fi; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The build back end comes out of the lock file too, so nothing is fetched that has no hash.
INSTALL_SELF = $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .

$(RUN_STAMP): $(BIN)/pip requirements.lock pyproject.toml
	@echo "installing what requirements.lock names (TensorFlow is large: a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(INSTALL_SELF)
	@touch $@

$(DEV_STAMP): $(BIN)/pip requirements-dev.lock pyproject.toml
	@echo "installing what requirements-dev.lock names"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(INSTALL_SELF)
	@touch $@

# Nothing is installed behind the back of somebody who is not root: the tests that need it say what is missing.
debian:
	@missing=""; \
	for pair in $(DEBIAN); do \
	    command -v "$${pair%%:*}" >/dev/null || missing="$$missing $${pair##*:}"; \
	done; \
	if [ -n "$$missing" ]; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	    else \
	        echo "not installed, some tests will say so:$$missing"; \
	    fi; \
	fi
