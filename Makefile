# Two commands do all: `make demo` shows the main job, `make test` checks the installation.
PYTHON ?= python3
VENV   ?= .venv
RUN     = $(VENV)/bin/python -m

.PHONY: demo test test-slow test-mutants lint bench clean

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV): torch first, some minutes in all"
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --upgrade pip
	$(RUN) pip install --quiet -c constraints.txt torch
	$(RUN) pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(RUN) pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/installed
	$(RUN) medssl demo

test: $(VENV)/installed-test
	$(RUN) pytest -n 2

test-slow: $(VENV)/installed-test
	$(RUN) pytest -m slow

test-mutants: $(VENV)/installed-test
	$(RUN) tests.mutants $(MUTANTS)

bench: $(VENV)/installed
	$(RUN) pip install --quiet -c constraints.txt -e '.[bench]'
	$(RUN) benchmarks.speed $(BENCH)

lint: $(VENV)/installed-test
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

clean:
	rm -rf $(VENV) medssl-demo .pytest_cache .mypy_cache .ruff_cache
