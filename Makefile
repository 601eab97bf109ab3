# Everything a developer runs. `make` alone lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= auto

# The first of these that is at least 3.10 and can make virtual environments.
PYTHONS := python3 python3.13 python3.12 python3.11 python3.10
CAN_BUILD := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-13s %s\n", $$1, $$2 }'

.PHONY: venv
venv: $(READY) ## make .venv with the locked dependencies and etcdguard itself

$(READY): requirements/dev.txt pyproject.toml
	@for python in $(PYTHONS); do \
	  if $$python -c '$(CAN_BUILD)' 2>/dev/null; then exec $$python -m venv $(VENV); fi; \
	done; \
	echo 'error: no Python of at least 3.10 with the venv module was found' >&2; \
	echo 'hint: on Debian and Ubuntu, apt install python3-venv' >&2; \
	exit 1
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: test
test: $(READY) ## run every test, against every etcd version that can be had
	$(BIN)/python -m tests.support.etcd_versions
	$(BIN)/python -m tests.support.hosts_image
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

.PHONY: test-unit
test-unit: $(READY) ## run the tests that need no servers
	$(BIN)/python -m pytest -n $(WORKERS) tests/unit

.PHONY: lint
lint: $(READY) ## check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: types
types: $(READY) ## check the types
	$(BIN)/mypy

.PHONY: layers
layers: $(READY) ## check that imports only go down
	$(BIN)/lint-imports

.PHONY: demo
demo: $(READY) ## back up, lose and restore a throwaway cluster
	$(BIN)/etcdguard demo

.PHONY: bench
bench: $(READY) ## compare a backup with etcdctl snapshot save (needs about 5 GB of disk)
	$(BIN)/python -m tests.benchmarks.backup_speed

.PHONY: bench-restore
bench-restore: $(READY) ## compare restore --all with three hosts by hand (root; about 8 GB of disk)
	$(BIN)/python -m tests.benchmarks.restore_speed

.PHONY: soak
soak: $(READY) ## ten minutes of trouble for three daemons on a real cluster
	$(BIN)/python -m tests.soak

.PHONY: lock
lock: $(READY) ## resolve the dependencies anew into requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate --extra dev --extra demo \
	  pyproject.toml requirements/build.in -o requirements/dev.txt
