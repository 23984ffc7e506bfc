# Everything sets itself up: a machine needs Python 3.11 or newer, make and git.
#
#   make demo           the whole idea, end to end, on real data     (ARGS="--epsilon 1")
#   make test           format, lint, types, import directions, tests
#   make test-slow      the tests that take longer
#   make lint | types   one of the checks alone
#   make bench NAME=x   run benchmarks/x.py                           (ARGS="--json")
#   make install        the development environment in .venv
#   make clean          remove all that make has made, .venv as well
#
# SCRATCH=<folder> is where tests write; by default in memory where there is room.
# TORCH_INDEX=<url> adds a package index, for example one with CPU builds of torch.

PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PACKAGES := fedcore fedserver clients governance registry simulations
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --constraint constraints.txt

export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help demo install lint types test test-slow bench clean

help:
	@sed -n 's/^#  *\(make .*\)/\1/p' Makefile

# A stamp stands for a finished step, so that an interrupted one is done again.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed-%: pyproject.toml constraints.txt $(VENV)/.created
	@echo "installing fedpact[$*] into $(VENV); the first time takes some minutes"
	@$(PIP_INSTALL) --editable '.[$*]'
	@touch $@

install: $(VENV)/.installed-dev

demo: $(VENV)/.installed-demo
	@$(BIN)/fedpact demo $(ARGS)

lint: install
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports

types: install
	$(BIN)/mypy

# Tests write and sync much that nobody keeps: they do it in memory where there is plenty of it.
SCRATCH ?= $(shell memory=$$(awk '/^MemAvailable/ {print $$2}' /proc/meminfo 2>/dev/null); \
	room=$$(df -Pk /dev/shm 2>/dev/null | awk 'END {print $$4}'); \
	if [ "$${memory:-0}" -gt 10000000 ] && [ "$${room:-0}" -gt 8000000 ] && [ -w /dev/shm ] && \
	! grep -q ' /dev/shm [^ ]* [^ ]*noexec' /proc/mounts; then echo /dev/shm; \
	else echo "$${TMPDIR:-/tmp}"; fi)

# $(call tests,which,how they are shared out): in a folder of their own, which goes when they end.
tests = scratch=$$(mktemp -d "$(SCRATCH)/fedpact-tests.XXXXXX") && trap 'rm -rf "$$scratch"' EXIT && \
	$(BIN)/python -m pytest -q -m "$(1)" -n 2 --dist $(2) --basetemp="$$scratch/t" $(ARGS)

# Types and the other checks use a core each; so do the tests, and neighbours stay on one worker,
# which makes what they share once.
test: install
	@$(MAKE) --no-print-directory --jobs 2 types lint
	@$(call tests,not slow,worksteal)

test-slow: install
	@$(call tests,slow,loadscope --no-loadscope-reorder)

bench: install
	@test -n "$(NAME)" || { echo 'usage: make bench NAME=demo [ARGS=--json]' >&2; exit 2; }
	@$(BIN)/python benchmarks/$(NAME).py $(ARGS)

clean:
	rm -rf $(VENV) build dist demo-report .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(PACKAGES) migrations tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
