PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WORKERS ?= 2

.PHONY: demo check test docs install clean

QUICK := tests/trajectory tests/traces tests/runs tests/tables tests/plots tests/test_files.py tests/test_import.py \
  tests/test_text.py

demo: $(INSTALLED)
	$(BIN)/trajkit demo

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -m 'not slow and not alone' -n $(WORKERS) --dist loadfile $(QUICK)

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -m 'not alone' -n $(WORKERS) --dist loadfile
	$(BIN)/pytest -m alone

docs: $(INSTALLED)
	$(BIN)/sphinx-build -E -c docs -d build/doctrees -n -W -q . build/site
	@echo build/site/index.html

install: $(INSTALLED)

$(INSTALLED): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "trajkit needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build runs reports/demo
