EXTRA ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
STAMP := .venv/.made-$(EXTRA)
BIN := .venv/bin

# A test and the processes that it starts share the cores; a waiting thread must not spin.
export OMP_WAIT_POLICY := PASSIVE
# OpenBLAS has no such setting: the oracles' small matrices took forty times the CPU on busy cores.
test test-units test-engine test-slow test-faults test-gateways: export OPENBLAS_NUM_THREADS := 1

.PHONY: setup demo test test-units test-engine test-slow test-faults test-gateways mutants lint format docs demo-assets screenshots bench-merge bench-registry bench-adapt bench-cli bench-abuse bench-serve bench-consoles bench-cluster bench-placement bench-limits cluster churn lab-merge lab lab-verdict lab-skills lab-skills-adaptive

# The comment above a target is its description in CONTRIBUTING.md (`make docs`).

# creates `.venv`; every other target does this when `.venv` is missing or outdated
setup: $(STAMP)

$(STAMP): pyproject.toml constraints-$(EXTRA).txt .ci/setup
	.ci/setup $(EXTRA)
	@touch $@

# runs the demo; `ONCE=1` exits after the tables; `TINY=1` serves the tests' tiny base, without a
# download
demo: $(STAMP)
	$(BIN)/weft demo$(if $(TINY), --tiny)$(if $(ONCE), --once)

# runs all tests except the slow ones, with the real engine: minutes. `test-units` and `test-engine`
# run at once, as an engine's start and answers leave the cores idle
test: $(STAMP)
	@$(MAKE) --no-print-directory --jobs=2 --keep-going test-engine test-units

# runs the tests of `make test` that need no engine
test-units: $(STAMP)
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not slow and not engine"

# runs the tests of `make test` that need the engine, and prints their results at the end
test-engine: $(STAMP)
	@mkdir -p build
	$(BIN)/pytest -q -m "engine and not slow" tests/engine > build/test-engine.log 2>&1; \
	status=$$?; cat build/test-engine.log; exit $$status

# runs the tests marked `slow`, two files at once: engines of their own, true layer widths
test-slow: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadfile --durations=15 -m slow

# runs the tests marked `faults`: engine, workers and gateway killed or hung
test-faults: $(STAMP)
	$(BIN)/pytest -m faults

# runs the tests of the engine against two gateways, two engines, PostgreSQL and an object store,
# with requests alternating: 6 GB, and four minutes on two cores
test-gateways: $(STAMP)
	TEST_GATEWAYS=2 $(BIN)/pytest -m "engine and not slow" tests/engine

# lists the changes to `FILES` (source files) that no test notices; for use by hand
mutants: $(STAMP)
	$(BIN)/python -m tests.mutants $(FILES)

# runs ruff, its formatter and mypy --strict over source and tests
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# fixes what ruff can fix
format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# rewrites the tables of the documents from the code
docs: $(STAMP)
	$(BIN)/python -m tests.reference

# makes the pictures of the console in deploy/screenshots, of the real demo; minutes
screenshots: $(STAMP)
	$(BIN)/python -m tests.engine.skills.screenshots

# measures every merge method at Llama 3.1 8B's shapes beside its peers, in seconds and memory;
# `DEVICE=cuda` on a GPU; writes build/bench-merge.json
bench-merge: $(STAMP)
	$(BIN)/python -m tests.bench.merge $(if $(DEVICE),--device $(DEVICE))

# measures imports and searches on both databases; writes build/bench-registry.json; `MILLION=1`
# adds a million rows on PostgreSQL: about half an hour on two cores, and 10 GB of disk
bench-registry: $(STAMP)
	$(BIN)/python -m tests.bench.registry $(if $(MILLION),--million)

# measures a training step of coefficients beside one of a plain LoRA, in time and memory;
# `DEVICE=cuda` on a GPU; writes build/bench-adapt.json
bench-adapt: $(STAMP)
	$(BIN)/python -m tests.bench.adapt $(if $(DEVICE),--device $(DEVICE))

# measures the CPU seconds of ten commands, each in a fresh process, the best of three
bench-cli: $(STAMP)
	$(BIN)/python -m tests.bench.cli

# measures one tenant's chat latency while another abuses the gateway in every known way;
# `ENGINE=vllm` on a real engine; writes build/bench-abuse.json
bench-abuse: $(STAMP)
	$(BIN)/python -m tests.bench.abuse $(if $(ENGINE),--engine $(ENGINE))

# measures two engines against one, three rules of placement, and what choosing costs the gateway;
# writes build/bench-cluster.json; ten minutes on two cores
bench-cluster: $(STAMP)
	$(BIN)/python -m tests.bench.cluster

# measures what serving costs beside a real engine: streams, new compositions, merges beside
# streams, a thousand compositions, CPU kernels, one and two engines, memory; `PARTS="cold zipf"`
# measures these; writes build/bench-serve.json; more than half an hour on two cores
bench-serve: $(STAMP)
	$(BIN)/python -m tests.bench.serve $(if $(PARTS),--only $(PARTS))

# measures a chat's p99 beside ten open consoles and without them, on real vLLM; writes
# build/bench-consoles.json; six minutes
bench-consoles: $(STAMP)
	$(BIN)/python -m tests.bench.consoles

# simulates 2 to 256 engines: hits, spread, loads and waits of weft's placement and of simpler rules;
# compares the simulation with 2 and 4 stub engines; writes build/bench-placement*.json; minutes
bench-placement: $(STAMP)
	$(BIN)/python -m tests.bench.placement
	$(BIN)/python -m tests.bench.placement_check

# measures what a gateway asks of PostgreSQL per request and idle, and what a bucket gives; writes
# build/bench-limits.json
bench-limits: $(STAMP)
	$(BIN)/python -m tests.bench.limits

# loses each part of a cluster once under load: an engine, a gateway, the object store, PostgreSQL;
# compares every answer with PEFT's; `COMPOSITIONS=24` for a short run, default 200; `RAY=1` on a
# local Ray; writes build/cluster.md or build/cluster-ray.md; a quarter of an hour on two cores
cluster: $(STAMP)
	$(BIN)/python -m tests.engine.cluster $(COMPOSITIONS) $(if $(RAY),--ray)

# sends 20,000 requests (or `REQUESTS`) while names, files and the engine change beneath them, and
# compares every answer with PEFT's; writes build/churn.json; about two hours on two cores
churn: $(STAMP)
	$(BIN)/python -m tests.engine.churn $(if $(REQUESTS),--requests $(REQUESTS))

# measures the merge methods on the demo's skills; writes tables under tests/lab/results; resumable
lab-merge: $(STAMP)
	$(BIN)/python -m tests.lab.merge_table

# measures adaptive merging and its controls on few-shot tasks; writes tables under
# tests/lab/results; resumable; about an hour
lab: $(STAMP)
	$(BIN)/python -m tests.lab.adapt_table

# runs whole adaptive jobs and draws the marks of `make lab` again: how often a verdict is wrong, and
# what it can see; writes tables under tests/lab/results; resumable; about an hour
lab-verdict: $(STAMP)
	$(BIN)/python -m tests.lab.verdict_table

# measures the merge methods on the eight skills of the real base; writes tables under
# tests/lab/results; resumable; about three hours of one core, half of it with `ROUNDS=1`
lab-skills: $(STAMP)
	$(BIN)/python -m tests.lab.merge_skills$(if $(ROUNDS), --rounds $(ROUNDS))

# measures what learning three of the eight skills from a few examples gains from the adapters of
# the others; writes a page under tests/lab/results; resumable; about two and a half hours of one
# core
lab-skills-adaptive: $(STAMP)
	$(BIN)/python -m tests.lab.adapt_skills

# trains the eight skills again, on the base that the demo fetches, and measures them and their
# merges; resumable; hours; `TINY=1` trains the tests' tiny base and its adapters: ten minutes on
# two cores
demo-assets: $(STAMP)
	$(BIN)/python -m $(if $(TINY),tests.lab.make_assets --out deploy/demo,tests.lab.make_skills)
