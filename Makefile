# Everything a developer of Tesra does. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
CODE := src tests bench tools examples
ONLY ?=
UPGRADE ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help setup setup-system demo up test test-fast test-engines check check-fast lint format-check types \
        imports sizes lock messages fmt bench clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Create .venv with everything in it (instant when nothing has changed)

$(STAMP): pyproject.toml requirements/tools.txt requirements/dev.txt hatch_build.py package-lock.json
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Tesra needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@rm -f $@
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	    { rm -rf $(VENV); echo "Python's venv module is missing: make setup-system" >&2; exit 1; }
	@echo "Setting up $(VENV)"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/tools.txt
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q -j 0 src
	@touch $@

setup-system:  ## Install the system's packages that a bare machine may lack, and bench's rivals (Debian, Ubuntu)
	@command -v apt-get >/dev/null || { echo "Install Python 3.11 with venv, pip and git." >&2; exit 1; }
	$$(test "$$(id -u)" = 0 || echo sudo) apt-get update
	$$(test "$$(id -u)" = 0 || echo sudo) apt-get install -y python3-venv python3-pip git chromium fonts-noto-cjk restic borgbackup

demo: setup  ## Run the main job on this machine: import, train, bill, pay, download
	@$(BIN)/python tools/demo.py

up: setup  ## Start the whole network on this machine
	@$(BIN)/tesra up

test: setup  ## The whole suite, two files at a time: most of its tests wait for processes
	@$(BIN)/python -m pytest -q --numprocesses 2 --dist loadfile

test-fast: setup  ## The tests that need no process of ours: unit and property
	@$(BIN)/python -m pytest -q tests/unit tests/property

test-engines: setup  ## Only what needs every engine's environment: all examples, failing ranks
	@$(BIN)/python -m pytest -q -m engines

check: setup  ## Lint, format, types, layers, sizes
	@$(MAKE) --no-print-directory --jobs 3 --keep-going --output-sync=target \
	    types lint format-check imports sizes

check-fast: check  ## The same; it takes under a minute

lint:
	@$(BIN)/ruff check --quiet $(CODE)

format-check:
	@$(BIN)/ruff format --quiet --check $(CODE) || { echo "Not formatted: make fmt" >&2; exit 1; }

types:
	@$(BIN)/mypy --no-error-summary

imports:
	@said=$$($(BIN)/lint-imports 2>&1) || { echo "$$said"; exit 1; }

sizes:
	@$(BIN)/python tools/check_sizes.py

lock: setup  ## Write the hashed requirements files (make lock UPGRADE=1 takes new versions)
	@$(BIN)/python tools/lock.py $(if $(UPGRADE),--upgrade)

messages: setup  ## Bring the pages' catalogues up to date; lists what lacks a translation
	@$(BIN)/python tools/messages.py

fmt: setup  ## Format the code
	@$(BIN)/ruff check --quiet --fix-only $(CODE)
	@$(BIN)/ruff format $(CODE)

bench: setup  ## Measure every figure, or one of them: make bench ONLY=launch
	@$(BIN)/python -m bench $(ONLY)

clean:  ## Remove what was built here (a running demo is stopped first)
	@test ! -d .demo/home || test ! -x $(BIN)/tesra || $(BIN)/tesra down --home .demo/home
	rm -rf $(VENV) .demo dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
