# Everything from a fresh clone: `make demo`, `make test`; `make help` lists the rest. Needs python3 (>= 3.10) with venv, and make.
#
#   TORCH   which torch to install, as pip is asked for it: the pin of constraints.txt unless given, then remembered in .venv.
#           make demo TORCH="torch==2.14.1"
#           make demo TORCH="torch==2.13.0 --index-url URL"     URL: a CPU, CUDA or ROCm index from pytorch.org
#   ARGS    further arguments: make demo ARGS="--seed 1", make test ARGS="tests/diffusion -x"
#   DATA    folder of the measured tables that `lab-full` adds: make lab-full DATA=../tables
#   PYTHON  the interpreter .venv is made with

PYTHON ?= python3
ARGS ?=
LAB_DATA = $(if $(DATA),--data $(DATA))
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TORCH ?= $(or $(shell cat .venv/.torch 2>/dev/null),$(shell sed -n 's/^torch==/&/p' constraints.txt))

.PHONY: help demo test test-slow test-oldest check lab lab-full docs wheel clean FORCE .venv
.DELETE_ON_ERROR:

help:  ## This list.
	@sed -n 's/^\([a-z.-]*\):.*## /  \1\t/p' Makefile | expand -t 16

demo: .venv/.installed  ## Digits: pretrain, fine-tune with SEPO, write runs/demo/report.html.
	$(BIN)/sepo demo $(ARGS)

test: .venv/.installed  ## The fast tests, with shape checking.
	$(BIN)/python -m pytest $(ARGS)

test-slow: .venv/.installed  ## The tests that train, resume, start processes.
	$(BIN)/python -m pytest -m slow $(ARGS)

test-oldest: .venv/.torch  ## The fast tests with the oldest releases that pyproject.toml admits.
	rm -rf build/oldest
	$(PYTHON) -m venv build/oldest
	build/oldest/bin/python -m pip --disable-pip-version-check --quiet install $(TORCH)
	build/oldest/bin/python -m pip --disable-pip-version-check --quiet install -c constraints-oldest.txt --editable '.[test]'
	build/oldest/bin/python -m pytest $(ARGS)

check: .venv/.dev  ## Lint, format, types, layers, tests with coverage.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --cov --cov-report=term $(ARGS)

lab: .venv/.installed  ## Every method against exact answers: gradients, convergence, figures in runs/lab. About half an hour.
	$(BIN)/python benchmarks/gradient_quality.py $(ARGS)
	$(BIN)/python benchmarks/convergence.py $(ARGS)
	$(BIN)/python benchmarks/lab_figures.py

lab-full: .venv/.installed  ## The same with more batches, seeds and evaluations, resumable; DATA=folder adds measured worlds.
	$(BIN)/python benchmarks/gradient_quality.py --batches 400 $(LAB_DATA)
	$(BIN)/python benchmarks/convergence.py --seeds 5 --budget 300000 $(LAB_DATA)
	$(BIN)/python benchmarks/lab_figures.py

docs: .venv/.dev  ## The documentation, into site/.
	$(BIN)/mkdocs build --strict

wheel: .venv/.installed  ## Build a wheel, install it into an empty environment, run it there.
	rm -rf build dist
	$(PIP) wheel --no-deps --wheel-dir dist .
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip --disable-pip-version-check --quiet install $(TORCH)
	build/empty/bin/python -m pip --disable-pip-version-check --quiet install -c .venv/constraints.txt "$$(echo dist/*.whl)[demo]"
	cd build && empty/bin/sepo --version && empty/bin/sepo demo --help > /dev/null && empty/bin/sepo demo $(ARGS)

clean:  ## Remove what was built; .venv and runs stay.
	rm -rf build dist site .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv: .venv/.installed  ## The environment of `demo` and `test`.

$(BIN)/python:
	$(PYTHON) -m venv .venv

# Holds the chosen torch; touched only when the choice changes.
.venv/.torch: FORCE | $(BIN)/python
	@echo '$(TORCH)' | cmp -s - $@ || echo '$(TORCH)' > $@

# Torch comes first and alone: which build (CPU, CUDA) pip takes is then decided by TORCH, and what came is pinned for the rest.
.venv/.installed: pyproject.toml constraints.txt .venv/.torch
	$(PIP) install $(TORCH)
	{ grep -v '^torch==' constraints.txt; $(BIN)/python -c "import importlib.metadata as m; print('torch==' + m.version('torch'))"; } > .venv/constraints.txt
	$(PIP) install -c .venv/constraints.txt --editable '.[test]'
	touch $@

.venv/.dev: .venv/.installed
	$(PIP) install -c .venv/constraints.txt --editable '.[dev,docs]'
	touch $@
