# Everything runs in .venv, which the first target makes; nothing but Python >= 3.11, make and a package index is needed.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
EDITABLE := --config-settings editable_mode=strict -e
SEED ?= 1

.PHONY: demo test test-fast lint types bench cassettes clean

demo: .venv/demo  ## watch an application get measurably better
	@rm -f .bedrock-evolution/demo.db*
	$(BIN)/bedrock-evolution run examples/support_router/app.py:evolution --generations 15 --seed $(SEED) \
		--model local --store sqlite:///.bedrock-evolution/demo.db

test: lint types  ## lint, types and all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: .venv/dev  ## the tests that take under ten seconds each
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev
	cd tests && ../$(BIN)/mypy --config-file ../pyproject.toml -p bedrock_evolution

bench: .venv/dev  ## measure, print and plot
	$(BIN)/python benchmarks/run.py

cassettes: .venv/dev  ## record the sessions in cassettes/ again, against the local endpoint
	$(BIN)/python -m tests.record_sessions

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) $(EDITABLE) '.[demo]'
	@touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt $(shell git ls-files '*.py' 2>/dev/null | grep -v -e '^tests/' -e '^examples/' | sort >.venv-modules 2>/dev/null)
	$(INSTALL) $(EDITABLE) '.[dev]'
	@touch $@

clean:
	rm -rf .venv build *.egg-info .bedrock-evolution
