# `make quickstart` and `make test` are all that a fresh machine with Python and make needs.
PYTHON ?= python3
DATA ?=
VENV ?= .venv
JOBS ?= auto

PY := $(VENV)/bin/python
# The build back-end is installed, pinned, beside everything else, so a build fetches nothing.
INSTALL := $(PY) -m pip install --quiet --constraint constraints.txt
INSTALL_SELF := $(INSTALL) --no-build-isolation --editable
METADATA := setup.cfg pyproject.toml constraints.txt
SPHINXOPTS ?= -W --keep-going

# Tests and the gallery change folders, so a relative data folder is made absolute here.
ifneq ($(strip $(ANOMALY_ESTIMATORS_DATA)),)
data_folder := $(shell cd "$(ANOMALY_ESTIMATORS_DATA)" && pwd)
ifeq ($(data_folder),)
$(error ANOMALY_ESTIMATORS_DATA names "$(ANOMALY_ESTIMATORS_DATA)", which is not a folder)
endif
export ANOMALY_ESTIMATORS_DATA := $(data_folder)
endif

.PHONY: help quickstart test docs lint format wheel clean

help:
	@echo "make quickstart   fit DAGMM beside two baselines; print a table, write quickstart.png"
	@echo "                  DATA=kddcup99 (or another name) takes a benchmark data set"
	@echo "make test         run the tests, the docstring examples and the pages' examples"
	@echo "make docs         build the documentation into docs/_build/html"
	@echo "                  DOCS_GALLERY=0 shows the examples without running them, in a minute"
	@echo "make lint         check the style"
	@echo "make wheel        build a wheel into dist/"
	@echo "make clean        remove everything that the targets above made"

quickstart: $(VENV)/.plots $(if $(DATA),$(VENV)/.datasets)
	$(PY) examples/plot_quickstart.py $(if $(DATA),--data $(DATA))

test: $(VENV)/.test
	$(PY) -m pytest -n $(JOBS)

docs: $(VENV)/.docs $(if $(ANOMALY_ESTIMATORS_DATA),$(VENV)/.datasets)
	$(PY) -m sphinx $(SPHINXOPTS) -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

lint: $(VENV)/.lint
	$(PY) -m ruff check .

format: $(VENV)/.lint
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

wheel: $(VENV)/.wheel
	rm -rf build  # what an earlier build left there would end up in the wheel
	$(PY) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist *.egg-info docs/_build docs/auto_examples docs/generated
	rm -rf docs/sg_execution_times.rst .pytest_cache .ruff_cache .hypothesis .coverage htmlcov quickstart.png
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp file stands for each finished installation; it is redone only when the metadata changes.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# PyTorch comes first and pinned: no later requirement can then replace it with another build.
$(VENV)/.torch: $(VENV)/.python constraints.txt
	$(INSTALL) setuptools torch
	@touch $@

$(VENV)/.plots $(VENV)/.datasets $(VENV)/.test $(VENV)/.docs: $(VENV)/.torch $(METADATA)
	$(INSTALL_SELF) ".[$(patsubst .%,%,$(@F))]"
	@touch $@

$(VENV)/.lint: $(VENV)/.python constraints.txt
	$(INSTALL) ruff
	@touch $@

$(VENV)/.wheel: $(VENV)/.python constraints.txt
	$(INSTALL) setuptools
	@touch $@
