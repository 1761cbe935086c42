# Everything runs in .venv, which the first target makes: Python >= 3.11, make and a package index are all it takes.
PYTHON ?= python3
SEED ?= 1
BIN := .venv/bin
INSTALL = $(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	--config-settings editable_mode=strict -e
# A strict editable install links single modules, so a new one needs a new install.
MODULES := $(shell find . -name '*.py' -not -path './.venv*' -not -path './tests/*' -not -path './build/*' | sort)

.PHONY: demo test test-fast search lint types bench bench-peers cassettes clean

demo: .venv/demo
	@rm -f .bedrock-evolution/demo.db*
	$(BIN)/bedrock-evolution run examples/support_router/app.py:evolution --generations 15 --seed $(SEED) \
		--model local --store sqlite:///.bedrock-evolution/demo.db

test: lint types
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: .venv/dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

# The property tests with examples that no earlier run had.
search: .venv/dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m hypothesis --hypothesis-profile=search

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# From another folder, so that the installed package is checked and not this folder by accident.
types: .venv/dev
	cd tests && ../$(BIN)/mypy --config-file ../pyproject.toml -p bedrock_evolution

bench: .venv/dev
	$(BIN)/python benchmarks/run.py

# The tools we are measured against live in an environment of their own.
bench-peers: .venv-peers/peers
	.venv-peers/bin/python benchmarks/peers/run.py $(PEERS)

cassettes: .venv/dev
	$(BIN)/python -m tests.record_sessions

.venv/bin/python .venv-peers/bin/python: %/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $*

.venv/modules .venv-peers/modules: %/modules: $(MODULES) | %/bin/python
	@echo '$(MODULES)' | cmp -s - $@ || echo '$(MODULES)' > $@

.venv/demo: pyproject.toml constraints.txt .venv/modules
	$(INSTALL) '.[demo]'
	@touch $@

.venv/dev: pyproject.toml constraints.txt .venv/modules
	$(INSTALL) '.[dev]'
	@touch $@ .venv/demo

.venv-peers/peers: pyproject.toml constraints.txt benchmarks/peers/requirements.txt .venv-peers/modules
	$(INSTALL) '.[demo]' -r benchmarks/peers/requirements.txt matplotlib
	@touch $@

clean:
	rm -rf .venv .venv-peers build *.egg-info .bedrock-evolution
