# Two commands for newcomers: `make demo` classifies cells, `make test` runs the whole suite.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0

.PHONY: help demo app test fuzz lint format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    set up the base in $(VENV) (no PyTorch) and classify cells; CELLS=PATH for your own"
	@echo "make app     set up the dashboard in $(VENV) and open it; PORT=N for another port than 8000"
	@echo "make test    set up everything in $(VENV) and run the whole suite"
	@echo "make fuzz    fuzz all that takes bytes from outside; SECONDS=N for each target (600), TARGETS=..."
	@echo "make lint    format and type checks only"
	@echo "make format  rewrite the code in the project's format"
	@echo "make clean   remove $(VENV) and what the commands wrote"

demo: $(VENV)/.base
	@echo "==> Classifying cells"
	@$(BIN)/giemsa demo $(if $(CELLS),--cells "$(CELLS)") --output demo-output --force

app: $(VENV)/.web
	@$(BIN)/giemsa serve --open --port $(or $(PORT),8000)

test: lint
	@echo "==> Running the tests"
	@$(BIN)/python -m pytest --cov --cov-report=term

fuzz: $(VENV)/.dev
	@for target in $(or $(TARGETS),pictures archives cards annotations decisions sites tables splits); do \
	  echo "==> Fuzzing $$target"; \
	  $(BIN)/python tests/fuzz/run.py $$target --seconds $(or $(SECONDS),600) || exit 1; \
	done

lint: $(VENV)/.dev
	@echo "==> Checking format, style, types and the direction of imports"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

$(VENV)/bin/python:
	@echo "==> Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "No virtual environment could be made: on Debian, apt-get install python3-venv."; exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(VENV)/.base: $(VENV)/bin/python pyproject.toml
	@echo "==> Installing Giemsa's base (numpy, OpenCV, ONNX Runtime)"
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.web: $(VENV)/.base pyproject.toml
	@echo "==> Installing the dashboard (FastAPI, Dash, SQLAlchemy)"
	@$(BIN)/python -m pip install --quiet --editable ".[web]"
	@touch $@

# PyTorch comes first and pinned: asked for by another package, pip would take another build of it.
$(VENV)/.dev: $(VENV)/.base pyproject.toml
	@echo "==> Installing PyTorch, the lab and the tools of the tests (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet "$(TORCH)"
	@$(BIN)/python -m pip install --quiet --editable ".[lab,web,parquet]" --group dev
	@touch $@
