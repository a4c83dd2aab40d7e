# Each target makes what it needs, the environment included, and does nothing twice.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
PIP := $(BIN)/python -m pip install --disable-pip-version-check
UV := UV_SYSTEM_CERTS=1 $(BIN)/uv pip install --python $(BIN)/python

.PHONY: help setup lock train app dashboard api test test-all lint format bench bench-api clean

help:
	@echo "make setup   the environment in .venv/"
	@echo "make train   train the default U-Net on built-in phantoms, and test it"
	@echo "make app     the page: images read in a browser, with the project's bundle or one of phantoms"
	@echo "make dashboard   all runs below outputs/ in a browser, with TensorBoard (OUTPUT=... for another folder)"
	@echo "make api     a bundle behind HTTP, on port 8000 (BUNDLE=... for another than the project's own)"
	@echo "make test    the tests (those marked realdata too, where BCD_DATA is set)"
	@echo "make lint    ruff, mypy and the import contract"
	@echo "make bench   training throughput, side by side with a plain loop and the bare step"
	@echo "make bench-api   the service under load: 1, 8 and 32 clients (BUNDLE=...)"
	@echo "make lock    resolve the dependencies anew into requirements.lock"

setup: $(READY)

# uv is several times as fast; where it cannot work (a proxy that only pip is set up for), pip does the same. Compiled once,
# the libraries are imported in half the time by every command.
$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --quiet "uv>=0.11,<1"
	$(UV) --quiet --compile-bytecode -r requirements.lock || $(PIP) --quiet -r requirements.lock
	$(UV) --quiet --no-deps -e . || $(PIP) --quiet --no-deps -e .
	@touch $@

lock:
	test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet "uv>=0.9,<1"; }
	$(BIN)/uv pip compile --quiet --python-version 3.11 --extra dev --no-annotate --no-header -o requirements.lock pyproject.toml

train: $(READY)
	$(BIN)/python scripts/train.py experiment=quickstart

app: $(READY)
	$(BIN)/python scripts/serve.py

dashboard: $(READY)
	$(BIN)/python scripts/dashboard.py $(if $(OUTPUT),output=$(OUTPUT))

api: $(READY)
	$(BIN)/python scripts/serve_api.py $(if $(BUNDLE),bundle=$(BUNDLE))

# Two processes of one thread each: the tests are small, and so take half the time.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "(not slow or realdata) and not gpu and not browser"

test-all: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m benchmarks.run

bench-api: $(READY)
	$(BIN)/python -m benchmarks.run_api $(if $(BUNDLE),bundle=$(BUNDLE))

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
