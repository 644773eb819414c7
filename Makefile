# Every target makes .venv by itself when it is missing or older than what it is made from.
EXTRA ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
STAMP := .venv/.made-$(EXTRA)
BIN := .venv/bin
# Tests and the tools they start share few cores: threads that wait must not spin.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: setup demo test test-slow lint format demo-assets bench-merge bench-registry bench-adapt lab-merge lab

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

# Every merge method at Llama-3.1-8B's shapes, beside its floor and its peers; build/bench-merge.json.
bench-merge: $(STAMP)
	$(BIN)/python -m tests.bench.merge $(if $(DEVICE),--device $(DEVICE))

# Imports and searches per size on both databases; build/bench-registry.json. MILLION=1 adds the
# million rows on PostgreSQL: half an hour or so on two cores, and 10 GB of disk.
bench-registry: $(STAMP)
	$(BIN)/python -m tests.bench.registry $(if $(MILLION),--million)

# A training step of coefficients beside one of a plain LoRA; build/bench-adapt.json.
bench-adapt: $(STAMP)
	$(BIN)/python -m tests.bench.adapt $(if $(DEVICE),--device $(DEVICE))

# Merge methods on the demo's skills: quality tables under tests/lab/results; resumable.
lab-merge: $(STAMP)
	$(BIN)/python -m tests.lab.merge_table

# Adaptive merging and its controls on few-shot tasks: tables under tests/lab/results; resumable.
lab: $(STAMP)
	$(BIN)/python -m tests.lab.adapt_table

# Trains the demo base and adapters again: about ten minutes on two cores.
demo-assets: $(STAMP)
	$(BIN)/python -m tests.lab.make_assets --out deploy/demo
