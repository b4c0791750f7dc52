# make run: adapt the shipped decoder to 25-squares. make test: the fast tests; make coverage: the
# same, and which lines they run. make lint: style and types. make docs: the documentation.
# make wheel-test: build the wheel, and use it where there is no checkout.
PYTHON ?= python3
VENV ?= .venv
# A file of tests shares what it compiles; in the order of their names no long one comes last.
WORKERS = --numprocesses=2 --dist=loadfile --no-loadscope-reorder

.PHONY: run test coverage lint wheel-test
OLD = "herjax needs Python 3.11 or newer: make run PYTHON=python3.12, say"
$(VENV)/installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit($(OLD))'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --editable .[test]
	touch $@

# The documentation, into docs/_build/html. Strict: a broken link fails, or an error in the tutorial.
.PHONY: docs
$(VENV)/installed-docs: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --editable .[docs]
	touch $@

docs: $(VENV)/installed-docs
	$(VENV)/bin/python -m sphinx -W -n --keep-going -q docs docs/_build/html

run: $(VENV)/installed
	$(VENV)/bin/python -m experiments.her_adapt --task=25-squares

test: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest $(WORKERS) --durations=10

coverage: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest $(WORKERS) --cov=herjax

lint: $(VENV)/installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff check --preview --select PLW1514 herjax experiments  # every text has an encoding
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m mypy

wheel-test: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest -m slow tests/test_package.py
