# Everything here needs git, make and a Python 3.10-3.13 with venv, and nothing else.
#   make demo          an environment, the package, and the main job on a demo mask
#   make test          the fast tests          make test-slow   the long ones
#   make check         style, types, imports, tests
# Another Python: make test PYTHON=python3.12. More for pip: make demo PIP_ARGS="--index-url ..."

PYTHON ?= python3
PIP_ARGS ?=
# Processes that share the tests, file by file; each takes its share of the cores.
WORKERS ?= 2
PYTEST_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt $(PIP_ARGS)

# Read by pip for the build environment too, so that the build backend is pinned as well.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check docs tensor-lists wheel clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -n 5

$(BIN)/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v < (3, 14) else "Python 3.10 to 3.13 is needed, this is %d.%d: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)

# One stamp per kind of install: a second `make` does nothing until what it was made from changes.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/synthct generate --demo -o demo-out --overwrite
	@find $(CURDIR)/demo-out -name '*_preview.png'

test: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

# docs/commands.md, from --help; a test fails where it is out of date.
docs: $(VENV)/.installed-dev
	$(BIN)/python -m tests.contracts.command_reference > docs/commands.md.new
	mv docs/commands.md.new docs/commands.md

# Names and shapes of the networks' tensors, for `synthct check`; a test fails where out of date.
tensor-lists: $(VENV)/.installed-dev
	$(BIN)/python -m tests.contracts.tensor_lists

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m pip wheel --disable-pip-version-check --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) dist demo-out
