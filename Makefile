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
	$(BIN)/python -m tests.support.s3_servers
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

.PHONY: test-unit
test-unit: $(READY) ## run the tests that need no servers
	$(BIN)/python -m pytest -n $(WORKERS) tests/unit

# The parts where a wrong branch costs a backup, or the cluster that is being restored: every branch is tested.
PROVEN := etcdguard/crypto/*,etcdguard/catalog/*,etcdguard/retention.py,etcdguard/restore/plan*.py
PROVEN_BY = tests/unit/catalog tests/unit/crypto tests/unit/test_retention.py $(wildcard tests/unit/restore/test_plan*.py)
COVERAGE := $(BIN)/coverage

.PHONY: coverage
coverage: $(READY) ## run every test; fail below 97 % of all branches, or 100 % where it matters most
	$(BIN)/python -m tests.support.etcd_versions
	$(BIN)/python -m tests.support.hosts_image
	$(BIN)/python -m tests.support.s3_servers
	rm -rf .coverage.d
	$(COVERAGE) run -m pytest -n $(WORKERS) --dist loadgroup
	$(COVERAGE) combine --quiet
	$(COVERAGE) report
	$(COVERAGE) json --quiet -o .coverage.d/report.json
	$(BIN)/python -m tests.support.branch_coverage .coverage.d/report.json 97
	$(COVERAGE) report --fail-under=100 --include='$(PROVEN)'

.PHONY: coverage-unit
coverage-unit: $(READY) ## fail unless the unit tests of these parts alone reach those 100 %
	rm -rf .coverage.d
	$(COVERAGE) run -m pytest -n $(WORKERS) --hypothesis-profile=few $(PROVEN_BY)
	$(COVERAGE) combine --quiet
	$(COVERAGE) report --fail-under=100 --include='$(PROVEN)'

.PHONY: test-jammy
test-jammy: $(READY) ## run the tests of the systemd units on Ubuntu 22.04 (root; a few minutes)
	ETCDGUARD_HOSTS_RELEASE=jammy ETCDGUARD_REQUIRE_HOSTS=1 $(BIN)/python -m pytest tests/e2e/test_systemd.py

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
bench: $(READY) ## measure everything and write docs/benchmarks.md (root; over an hour, 25 GB of disk)
	$(BIN)/python -m tests.benchmarks

.PHONY: bench-restore
bench-restore: $(READY) ## compare restore --all with three hosts by hand (root; about 8 GB of disk)
	$(BIN)/python -m tests.benchmarks.restore_speed

.PHONY: bench-catalog
bench-catalog: $(READY) ## list and audit 10 000 backups of 100 clusters on a real S3 server
	$(BIN)/python -m tests.benchmarks.catalog_scale

.PHONY: bench-drill
bench-drill: $(READY) ## compare a drill with the same by hand (about 8 GB of disk)
	$(BIN)/python -m tests.benchmarks.drill_speed

.PHONY: soak
soak: $(READY) ## ten minutes of trouble for three daemons on a real cluster
	$(BIN)/python -m tests.soak

.PHONY: campaign
campaign: $(READY) ## storage, network, clocks, disks, kills, restores over hosts: what fails and what comes of it (root; 4 hours)
	$(BIN)/python -m tests.campaign.storage
	$(BIN)/python -m tests.campaign.prune
	$(BIN)/python -m tests.campaign.kills
	$(BIN)/python -m tests.campaign.restores
	$(BIN)/python -m tests.campaign.network
	$(BIN)/python -m tests.campaign.clock
	$(BIN)/python -m tests.campaign.disks
	$(BIN)/python -m tests.campaign

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate pyproject.toml requirements/build.in

.PHONY: lock
lock: $(READY) ## resolve the dependencies anew into requirements/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK) --extra dev --extra demo -o requirements/dev.txt
	$(LOCK) --constraint requirements/dev.txt -o requirements/run.txt

# Where `make install` puts the program; DESTDIR stages it for a package.
PREFIX = /usr/local
DESTDIR =
ROOT = $(DESTDIR)$(PREFIX)
UNITS := $(notdir $(wildcard systemd/*.service systemd/*.timer))
DOCUMENTS := README.md CHANGELOG.md LICENSE $(wildcard docs/*.md docs/adr/*.md config/*)

# The distribution's own first: the services see no home folder, so a Python from there is of no use.
PYTHON = $(firstword $(wildcard /usr/bin/python3 /usr/local/bin/python3) python3)
CAN_SERVE := import sys; sys.exit(sys.base_prefix.startswith(("/home/", "/root/", "/run/user/")))

.PHONY: check-prefix
check-prefix:
	@case '$(PREFIX)' in /*) ;; *) echo 'error: PREFIX must be an absolute path' >&2; exit 1;; esac

.PHONY: install
install: install-program install-files ## install program, units and documents below PREFIX (/usr/local); enables nothing
	@echo 'Installed below $(ROOT). What comes next: $(ROOT)/share/doc/etcdguard/docs/install.md'

.PHONY: install-program
install-program: check-prefix
	@if ! $(PYTHON) -c '$(CAN_BUILD)' || ! $(PYTHON) -c '$(CAN_SERVE)'; then \
	  echo 'error: $(PYTHON) is older than 3.10, has no venv module, or is in a home folder' >&2; \
	  echo 'hint: apt install python3-venv, or name another with PYTHON=' >&2; exit 1; fi
	@set -e; umask 022; new='$(ROOT)/lib/etcdguard.new'; \
	rm -rf "$$new"; $(PYTHON) -m venv "$$new"; \
	pip="$$new/bin/python -m pip install --quiet --disable-pip-version-check"; \
	$$pip --require-hashes -r requirements/run.txt; $$pip --no-deps --no-build-isolation .; \
	find "$$new/bin" -type f -delete; \
	rm -rf '$(ROOT)/lib/etcdguard'; mv "$$new" '$(ROOT)/lib/etcdguard'

.PHONY: install-files
install-files: check-prefix
	@set -e; umask 022; mkdir -p '$(ROOT)/bin' '$(ROOT)/lib/systemd/system'; \
	printf '#!/bin/sh\nexec %s/lib/etcdguard/bin/python -I -m etcdguard "$$@"\n' '$(PREFIX)' \
	  >'$(ROOT)/bin/etcdguard'; chmod 755 '$(ROOT)/bin/etcdguard'; \
	for unit in $(UNITS); do \
	  sed 's,/usr/bin/etcdguard,$(PREFIX)/bin/etcdguard,; s,/usr/share/doc/,$(PREFIX)/share/doc/,' \
	    "systemd/$$unit" >"$(ROOT)/lib/systemd/system/$$unit"; \
	done; \
	for kind in sysusers.d tmpfiles.d; do \
	  install -D -m 644 "systemd/$$kind/etcdguard.conf" "$(ROOT)/lib/$$kind/etcdguard.conf"; \
	done; \
	for document in $(DOCUMENTS); do \
	  install -D -m 644 "$$document" "$(ROOT)/share/doc/etcdguard/$$document"; \
	done

.PHONY: uninstall
uninstall: check-prefix ## remove what `make install` put there; never configuration, keys, backups
	rm -rf '$(ROOT)/lib/etcdguard' '$(ROOT)/lib/etcdguard.new' '$(ROOT)/share/doc/etcdguard'
	rm -f '$(ROOT)/bin/etcdguard' $(UNITS:%='$(ROOT)/lib/systemd/system/%') \
	  '$(ROOT)/lib/sysusers.d/etcdguard.conf' '$(ROOT)/lib/tmpfiles.d/etcdguard.conf'
