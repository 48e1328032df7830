# Every target sets up what it needs. PYTHON may name another interpreter: make run PYTHON=python3.12
#
# The virtual environment is made once and brought up to date when pyproject.toml, requirements/ or a kernel changes;
# stamp files inside it remember that. `make run` installs less than the targets for developers. Every package is
# pinned with hashes: pip installs exactly the files that were tested, or nothing. `make lock` writes the pins anew.
#
# Tests run in a process for each processor, at most four, each with databases of its own: make test WORKERS=1

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Twice quiet: errors are shown with their whole output, what setuptools has to say about editable packages is not.
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))
KERNELS := $(wildcard ratingcore/*.pyx ratingcore/*.pxd)
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: help run test test-browser check format translations lock bench bench-billing load sim journal-server clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 22

run: $(VENV)/.run  ## everything on this machine with demo data: databases, gateways, relay, pages
	@exec $(BIN)/kopeck run

test: $(VENV)/.dev  ## everything a change must pass
	@$(BIN)/pytest -n $(WORKERS) -m "not slow"

test-browser: $(VENV)/.dev  ## the search page in Chromium
	@$(BIN)/pytest -m browser

check: $(VENV)/.dev  ## format, lint, types, rules of the house, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m tests.house_rules
	@$(BIN)/python -m billing.language.extract --check
	@mkdir -p build && $(BIN)/lint-imports --no-cache | tee build/import-contracts.txt
	@grep -Eq '^Analyzed [1-9][0-9]+ files, [1-9][0-9]+ dependencies' build/import-contracts.txt \
	    || { echo 'import contracts: nothing was examined' >&2; exit 1; }

format: $(VENV)/.dev  ## rewrite the code in the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

translations: $(VENV)/.dev  ## find the texts in the code and bring billing/language/*.po up to date with them
	@$(BIN)/python -m billing.language.extract

bench: $(VENV)/.dev  ## figures of this machine; never fails for being slow
	@$(BIN)/python -m loadtests.bench

bench-billing: $(VENV)/.dev  ## a billing cycle of 2,000,000 subscribers, beside bare copying; BENCH_SUBSCRIBERS scales it
	@$(BIN)/python -m loadtests.bench_billing

load: $(VENV)/.dev  ## Locust against real gateways with faults, then the auditor
	@$(BIN)/python -m loadtests.load

sim: $(VENV)/.dev  ## long randomised runs
	@$(BIN)/pytest -m slow --timeout 7200

JOURNAL_SERVER_VERSION := 0.5.3-beta.196
# The crate declares a newer compiler than most machines have and builds with 1.95: its own lock file is kept to.
journal-server:  ## build secantusd-rs, a faster embedded journal; needs cargo 1.95, cmake, a C compiler and ten minutes
	@command -v cargo >/dev/null || { echo 'cargo not found: https://rustup.rs' >&2; exit 2; }
	@command -v cmake >/dev/null || { echo 'cmake not found. Debian: apt install cmake' >&2; exit 2; }
	@cargo install secantus-mdb --version $(JOURNAL_SERVER_VERSION) --locked --ignore-rust-version \
	    --target-dir $${CARGO_TARGET_DIR:-$${TMPDIR:-/tmp}/kopeck-journal-server}
	@echo 'kopeck run takes secantusd-rs from PATH for a new data folder (cargo installs it to ~/.cargo/bin)'

clean:  ## remove what was built; the data in .kopeck stays
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -prune -exec rm -rf {} +
	@rm -f ratingcore/*.so ratingcore/*.c ratingcore/*.cpp

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo '$(PYTHON) not found. Debian: apt install python3' >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	    || { echo "Kopeck needs Python 3.11 to 3.13, and $(PYTHON) is $$($(PYTHON) -V). Another: make PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	    || { echo 'Python cannot make virtual environments. Debian: apt install python3-venv' >&2; exit 2; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
	    || { echo "Python.h not found, and kernels are compiled. Debian: apt install python3-dev" >&2; exit 2; }
	@command -v $${CC:-cc} >/dev/null || { echo 'no C compiler. Debian: apt install build-essential' >&2; exit 2; }
	@echo 'setting up $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# Build requirements go in first and are not isolated, so that one NumPy serves the build and the run.
$(VENV)/.build: $(VENV)/.made requirements/build.txt
	@$(PIP) install --require-hashes -r requirements/build.txt
	@touch $@

$(VENV)/.run: $(VENV)/.build requirements/run.txt pyproject.toml setup.py $(KERNELS)
	@echo 'installing Kopeck and compiling its kernels'
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo 'installing tools for development'
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

LOCK = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate

lock: $(VENV)/.made  ## write requirements/ anew from pyproject.toml; UPGRADE=--upgrade takes the newest versions
	@$(PIP) install uv
	@mkdir -p requirements
	@$(LOCK) $(UPGRADE) --extra embedded --extra dask --extra dev pyproject.toml -o requirements/dev.txt
	@$(LOCK) -c requirements/dev.txt --extra embedded pyproject.toml -o requirements/run.txt
	@echo 'setuptools cython numpy' | tr ' ' '\n' | $(LOCK) -c requirements/dev.txt - -o requirements/build.txt
