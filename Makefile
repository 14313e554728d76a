# make demo · make test · make check · make .venv · make docs · make lock · make clean
PYTHON ?= python3
PORT ?= 3000
BIN := .venv/bin
UV := $(BIN)/uv pip
# What the editable install needs to be redone for; the lock carries the rest.
READY := .venv/.ready

.PHONY: demo test slow check format docs lock clean .venv

.venv: $(READY)

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || { echo "installing uv"; $(BIN)/python -m pip install --quiet uv; }
	@echo "installing the pinned environment into .venv (the first time this fetches CUDA's libraries: gigabytes)"
	$(UV) install --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) install --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)
	$(BIN)/python -m demo --port $(PORT)

test: $(READY)
	$(BIN)/python -m pytest

slow: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Made from the code; a test holds them equal.
docs: $(READY)
	$(BIN)/python -m training.docs

# Hash-pinned, for every platform, and without any index address: it works behind any mirror.
lock: | $(READY)
	$(UV) compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf .demo
