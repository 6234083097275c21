# Two commands to start with: `make demo` and `make test`. Each makes its own virtual environment if there is none.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

.PHONY: demo test test-slow lint format scores bench-tiling bench-faults clean

demo: $(VENV)/.core
	$(BIN)/python examples/demo.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow"

# Checks that take longer than a minute; those on benchmark pictures need RESTORA_DATA=/folder/with/bench/and/weights.
test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow -rs

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The scores of the bundled weights, into README.md: DATA=/folder/with/bench/train/kernels/weights, half an hour on two cores.
DATA ?= ../shared/data
scores: $(VENV)/.dev
	$(BIN)/python benchmarks/scores.py $(DATA) --write README.md

bench-tiling: $(VENV)/.dev
	$(BIN)/python benchmarks/tiling.py

bench-faults: $(VENV)/.dev
	$(BIN)/python benchmarks/faults.py

clean:
	rm -rf $(VENV) out

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Restora needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

# The stamp files are older than what decides about the installation exactly when it has to be done again.
$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Restora into $(VENV) (once) ..."
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) -e '.[dev]'
	@touch $@
