# One entry for everything. `make help` lists the targets.
#
# Needs: python3 (3.11 or newer, with venv), g++, make, perl. Everything else comes from the Python
# package index into .venv at the top of the checkout; nothing needs root.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Two workers: a test of a whole accelerator takes a core of its own.
JOBS ?= 2
PYTEST_ARGS ?=

# The generated Verilog must not depend on the order of sets.
export PYTHONHASHSEED := 0

.PHONY: help setup venv tools demo smollm litedram test test-slow test-seeds test-model test-transformers test-all lint format lock clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: venv tools ## install everything into .venv and check the compilers
	@echo 'ready: .venv/bin/seedlm --help'

venv: $(STAMP)

# The stamp carries the time of the last complete installation: a second run does nothing, a changed
# lock file or pyproject.toml installs what changed.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'make: error: $(PYTHON) must be Python 3.11 or newer; choose another with make PYTHON=...' >&2; exit 1; }
	@rm -f $@
	@[ -x $(BIN)/python ] || { echo 'creating $(VENV)'; $(PYTHON) -m venv $(VENV); } \
	  || { echo 'make: error: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu install python3-venv' >&2; exit 1; }
	@echo 'installing the packages of requirements.lock into $(VENV)'
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

tools: ## check the programs that do not come from the package index
	@for tool in g++ make perl; do \
	  command -v $$tool >/dev/null || { echo "make: error: $$tool is missing (Debian, Ubuntu: apt install g++ make perl)" >&2; exit 1; }; \
	done

demo: venv tools ## compress, generate Verilog, simulate, compare: the whole path in one go
	@$(BIN)/python -m seedlm.demo

smollm: venv tools ## a real language model, SmolLM2-135M: fetch, compress, evaluate, let the RTL write (an hour)
	@$(BIN)/python -m seedlm.smollm

litedram: venv tools ## install LiteDRAM, for --memory litedram, and measure what it gives to a bare reader
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-build-isolation -c requirements.lock -e '.[litedram]'
	@$(BIN)/python -m seedlm.sim.bench_memory --litedram

test: venv tools lint ## everything that is fast
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q -m 'not slow' $(PYTEST_ARGS)

test-slow: venv tools ## only what is slow
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q -m slow $(PYTEST_ARGS)

SEEDS ?= 5
test-seeds: venv tools ## the RTL tests, SEEDS times with a seed drawn anew
	@for n in $$(seq $(SEEDS)); do \
	  COCOTB_RANDOM_SEED=random $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q -m 'not slow' tests/hdl $(PYTEST_ARGS) || exit 1; done

test-model: venv tools ## the bundled model writes 32 tokens on the RTL and on the reference: equal bits
	@$(BIN)/python -m pytest -q -m slow tests/seedlm/test_generate.py $(PYTEST_ARGS)

test-transformers: venv ## install torch and transformers, and compare every model architecture with them anew
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-build-isolation -c requirements.lock -e '.[transformers]'
	@$(BIN)/python -m tests.host.models.transformers_logits
	@$(BIN)/python -m pytest -q tests/host/models tests/host/test_llama.py $(PYTEST_ARGS)

test-all: venv tools lint ## fast and slow
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q $(PYTEST_ARGS)

lint: venv ## style and common mistakes
	@$(BIN)/ruff check .

format: venv ## mend what lint can mend
	@$(BIN)/ruff check --fix .

lock: ## write requirements.lock anew: the newest versions that pyproject.toml allows
	@tools/lock.sh $(PYTHON)

clean: ## remove what builds and runs leave, keep .venv
	@rm -rf .cache out dist .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	@rm -rf $(VENV)
