"""Two engines against one, three rules of placement, and the cost of choosing.

Run it with `make bench-cluster`; it writes build/bench-cluster.json. Requests name compositions by
Zipf's law, more of them than an engine keeps in memory. Every gateway runs at once on the same
engines and rounds alternate, so that ratios hold on a busy machine. The two engines share this
machine's cores: throughput does not double, and what differs is how often an adapter is in memory.
The cost of choosing is measured on engines that answer at once.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from server.cli.demo import import_demo_adapters
from server.settings import Settings
from tests.bench.cluster.processes import Process, engines, gateway, stubs
from tests.bench.serve.load import percentile, session, stream
from tests.engine.gateway import ADAPTERS, serve_settings

OUT = Path("build") / "bench-cluster.json"
COMPOSITIONS, IN_MEMORY, SLOTS = 48, 12, 4
STREAMS, TOKENS, REQUESTS, ROUNDS, WARM_UP = 8, 16, 150, 3, 100
STUB_ENGINES, STUB_REQUESTS, STUB_ROUNDS = (1, 2, 8), 1500, 5


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one gateway: requests a second, milliseconds to the first token, hits."""

    throughput: float
    first_ms: float
    first_p99_ms: float
    hits: float


def compositions(rng: np.random.Generator) -> Sequence[str]:
    """Return distinct compositions of two adapters."""
    made = dict.fromkeys(
        f"linear({a / 100:.2f}*{one}, {b / 100:.2f}*{other}; rank=8)"
        for one, other, a, b in (
            (*rng.choice(ADAPTERS, 2, replace=False), *rng.integers(50, 150, 2))
            for _ in range(4 * COMPOSITIONS)
        )
    )
    return list(made)[:COMPOSITIONS]


def draws(models: Sequence[str], requests: int, rng: np.random.Generator) -> Sequence[str]:
    """Return requests: the model of rank k is k times rarer than the first."""
    shares = 1 / np.arange(1, len(models) + 1)
    return [models[n] for n in rng.choice(len(models), size=requests, p=shares / shares.sum())]


async def load(target: Process, models: Sequence[str]) -> Round:
    """Stream an answer for each model, `STREAMS` at a time."""
    rest, first = iter(models), list[float]()
    target.ask()
    async with session(target.endpoint) as http:

        async def client() -> None:
            for model in rest:
                first.append((await stream(http, model, TOKENS)).first_ms)

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(STREAMS)))
        seconds = time.perf_counter() - began
    counts = target.ask()
    return Round(
        len(models) / seconds, statistics.median(first), percentile(first, 0.99),
        counts["hits"] / max(1, counts["requests"]),
    )  # fmt: skip


async def compare(gateways: Mapping[str, Process], seed: int = 0) -> Mapping[str, Round]:
    """Return the median round of each gateway; every round has the same requests for each."""
    rng = np.random.default_rng(seed)
    models = compositions(rng)
    rounds: dict[str, list[Round]] = {name: [] for name in gateways}
    for model in models:  # merges, which the first to ask would wait for
        await load(next(iter(gateways.values())), [model])
    for _ in range(ROUNDS):
        warm, asked = draws(models, WARM_UP, rng), draws(models, REQUESTS, rng)
        for name, target in gateways.items():
            await load(target, warm)
            rounds[name].append(await load(target, asked))
    return {name: _median(several) for name, several in rounds.items()}


async def cost(target: Process, requests: int) -> float:
    """Return the gateway's CPU milliseconds a request, for adapters on engines that are quick."""
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    before = target.cpu_seconds()
    async with session(target.endpoint) as http:
        numbers = iter(range(requests))

        async def client() -> None:
            for number in numbers:
                named = {"model": ADAPTERS[number % len(ADAPTERS)], **body}
                async with http.post("/v1/chat/completions", json=named) as answer:
                    await answer.read()

        await asyncio.gather(*(client() for _ in range(STREAMS)))
    return 1000 * (target.cpu_seconds() - before) / requests


def placement(settings: Settings) -> Mapping[str, Round]:
    """Compare rules of placement on two engines, and one engine alone."""
    with ExitStack() as stack:
        pair = stack.enter_context(engines(settings, 2))
        cases = {"one engine": ("weft", pair[:1])} | {
            f"two engines, {rule}": (rule, pair) for rule in ("random", "least busy", "weft")
        }
        gateways = {
            name: stack.enter_context(gateway(settings, rule, several))
            for name, (rule, several) in cases.items()
        }
        return asyncio.run(compare(gateways))


def choosing(settings: Settings) -> Mapping[int, float]:
    """Return the gateway's CPU milliseconds a request by the number of engines."""
    with ExitStack() as stack:
        several = stack.enter_context(stubs(max(STUB_ENGINES)))
        gateways = {
            count: stack.enter_context(gateway(settings, "weft", several[:count]))
            for count in STUB_ENGINES
        }

        async def measure() -> Mapping[int, float]:
            spent: dict[int, list[float]] = {count: [] for count in gateways}
            for target in gateways.values():
                await cost(target, STUB_REQUESTS)
            for _ in range(STUB_ROUNDS):
                for count, target in gateways.items():
                    spent[count].append(await cost(target, STUB_REQUESTS))
            return {count: statistics.median(times) for count, times in spent.items()}

        return asyncio.run(measure())


def main() -> None:
    """Print the tables and write the document."""
    OUT.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = serve_settings(
            Path(folder) / "home", max_loras=SLOTS, max_cpu_loras=IN_MEMORY, warm_artifacts=0
        )
        settings.home.mkdir()
        import_demo_adapters(settings)
        rounds, spent = placement(settings), choosing(settings)
    lines = [
        f"{name:24} {one.throughput:5.1f} requests/s, first token {one.first_ms:6.1f} ms, "
        f"p99 {one.first_p99_ms:6.0f} ms, in memory {one.hits:.2f}"
        for name, one in rounds.items()
    ]
    lines += [f"{count} engines: {spent[count]:.2f} ms of CPU a request" for count in spent]
    sys.stdout.write("\n".join(lines) + "\n")
    document = {
        "placement": {name: asdict(one) for name, one in rounds.items()},
        "cpu_ms_by_engines": spent,
    }
    OUT.write_text(json.dumps(document, indent=1))


def _median(rounds: Sequence[Round]) -> Round:
    return Round(*(statistics.median(values) for values in zip(*map(_fields, rounds), strict=True)))


def _fields(one: Round) -> tuple[float, ...]:
    return one.throughput, one.first_ms, one.first_p99_ms, one.hits


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
