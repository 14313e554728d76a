# make demo · make test · make check · make .venv · make up · make docs · make lock · make clean
PYTHON ?= python3
PORT ?= 3000
# Processes that test side by side.
WORKERS ?= 2
BIN := .venv/bin
UV := $(BIN)/uv pip
# What the editable install needs to be redone for; the lock carries the rest.
READY := .venv/.ready

.PHONY: demo up test slow check format docs lock clean .venv

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

# Service, dispatcher, PostgreSQL, an S3, Prometheus and Grafana in containers: compose.yaml.
up:
	deploy/secrets.sh
	docker compose up --build --detach

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations 15

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
COMPILE := $(UV) compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
# Those of the images hold a part of it each, in the same versions.
OF := $(COMPILE) --constraints requirements.lock
lock: | $(READY)
	$(COMPILE) --extra dev pyproject.toml -o requirements.lock
	$(OF) deploy/serve.in -o deploy/serve-cpu.lock
	$(OF) deploy/serve.in deploy/serve-cuda.in -o deploy/serve-cuda.lock
	$(OF) pyproject.toml deploy/train.in -o deploy/train-cuda.lock

clean:
	rm -rf .demo
