# Every target makes .venv by itself when it is missing or older than what it is made from.
EXTRA ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
STAMP := .venv/.made-$(EXTRA)
BIN := .venv/bin
# Tests and the tools they start share few cores: threads that wait must not spin.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: setup demo test test-slow lint format demo-assets

setup: $(STAMP)

$(STAMP): pyproject.toml constraints-$(EXTRA).txt .ci/setup
	.ci/setup $(EXTRA)
	@touch $@

# ONCE=1 stops after the table.
demo: $(STAMP)
	$(BIN)/weft demo $(if $(ONCE),--once)

test: $(STAMP)
	$(BIN)/pytest -m "not slow"

test-slow: $(STAMP)
	$(BIN)/pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Trains the demo base and adapters again: about ten minutes on two cores.
demo-assets: $(STAMP)
	$(BIN)/python -m tests.lab.make_assets --out deploy/demo
