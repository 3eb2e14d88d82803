# Two commands for newcomers: `make demo` classifies cells, `make test` runs the whole suite.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0

.PHONY: help demo app test lint lint-page fuzz docs format figures constraints clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    set up the base in $(VENV) (no PyTorch) and classify cells; CELLS=PATH for your own"
	@echo "make app     set up the dashboard in $(VENV) and open it; PORT=N for another port than 8000"
	@echo "make test    set up everything in $(VENV) and run the whole suite"
	@echo "make fuzz    fuzz all that takes bytes from outside; SECONDS=N for each target (600), TARGETS=..."
	@echo "make lint    format and type checks only"
	@echo "make docs    build the documentation's site strictly, into site/"
	@echo "make format  rewrite the code in the project's format"
	@echo "make figures write the pages from benchmarks/results; CELLS=, REVIEWED=, FIELDS=, WEIGHTS= to measure again"
	@echo "make constraints write down the versions that are installed, as those that were tested"
	@echo "make clean   remove $(VENV) and what the commands wrote"

demo: $(VENV)/.base
	@echo "==> Classifying cells"
	@$(BIN)/giemsa demo $(if $(CELLS),--cells "$(CELLS)") --output demo-output --force

app: $(VENV)/.web
	@$(BIN)/giemsa serve --open --port $(or $(PORT),8000)

test: lint docs
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
	@$(MAKE) --no-print-directory lint-page

# TypeScript's checker and Biome, from npm and pinned by package-lock.json; nothing of them is needed to run Giemsa.
lint-page:
	@if ! command -v npm >/dev/null; then echo "==> The page's scripts are not checked: npm is not installed"; \
	elif ! { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent; }; then \
	  echo "==> The page's scripts are not checked: TypeScript and Biome cannot be had here"; \
	else echo "==> Checking the types and the style of the page's scripts"; npm run --silent check; fi

docs: $(VENV)/.dev
	@echo "==> Building the documentation"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@[ ! -d node_modules ] || npm run --silent format

figures: $(VENV)/.dev
	@$(BIN)/python benchmarks/run.py $(if $(CELLS),--cells "$(CELLS)") $(if $(REVIEWED),--reviewed "$(REVIEWED)") \
		$(if $(FIELDS),--fields "$(FIELDS)") $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(WORK),--work "$(WORK)")

constraints: $(VENV)/.dev
	@{ echo "# What the tests of this version ran with, on Linux and CPython 3.11: pip install -c constraints.txt 'giemsa[lab]'"; \
		$(BIN)/python -m pip list --format=freeze --exclude giemsa --exclude pip --exclude setuptools | sed 's/+[a-z0-9.]*$$//'; } > constraints.txt

clean:
	rm -rf $(VENV) node_modules demo-output site .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

$(VENV)/bin/python:
	@echo "==> Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "No virtual environment could be made: on Debian, apt-get install python3-venv."; exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(VENV)/.base: $(VENV)/bin/python pyproject.toml
	@echo "==> Installing Giemsa's base (numpy, OpenCV, ONNX Runtime)"
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.web: $(VENV)/.base pyproject.toml
	@echo "==> Installing the dashboard (FastAPI, SQLAlchemy)"
	@$(BIN)/python -m pip install --quiet --editable ".[web]"
	@touch $@

# PyTorch comes first and pinned: asked for by another package, pip would take another build of it.
$(VENV)/.dev: $(VENV)/.base pyproject.toml
	@echo "==> Installing PyTorch, the lab and the tools of the tests (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet "$(TORCH)"
	@$(BIN)/python -m pip install --quiet --editable ".[lab,web,parquet]" --group dev
	@touch $@
