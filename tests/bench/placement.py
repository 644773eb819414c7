"""How requests spread over 2 to 256 engines: a simulation of the placement beside simpler rules.

Run it with `make bench-placement`. Requests arrive as a Poisson process and name one of 10,000
adapters by Zipf's law. An engine answers some at once and the others wait; it keeps its most
recently used adapters in memory, its node more of them on disk, and what is in neither is fetched
from the bucket. Gateways choose by their own requests and by what engines told them last. The rule
is the gateway's (`server.engine.placement`); `placement_check.py` compares the model with engines
behind a gateway's fleet. Simulated, not measured: answers take a time that is drawn, and engines do
not slow down as they fill.
"""

import functools
import heapq
import json
import random
import sys
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from server.engine.placement import SLACK, order

ENGINES = (2, 4, 8, 16, 32, 64, 128, 256)
REQUESTS_OF_AN_ENGINE, MOST_REQUESTS = 4000, 100_000


@dataclass(frozen=True)
class Model:
    """What is simulated: sizes, and seconds of each step."""

    adapters: int = 10_000
    at_once: int = 16  # requests that an engine answers
    slots: int = 16  # adapters that they may name: WEFT_MAX_LORAS
    in_memory: int = 32  # adapters of an engine: WEFT_MAX_CPU_LORAS
    on_disk: int = 240  # adapters of a node: 20 GiB of 84 MB each
    answer_seconds: float = 1.0  # mean; the times are exponential
    load_seconds: float = 0.05  # from the disk into memory
    fetch_seconds: float = 0.3  # from the bucket to the disk
    news_seconds: float = 1.0  # between two answers about what an engine holds
    busy: float = 0.7  # the share of all places that requests take on average


def gateways_of(engines: int) -> int:
    """Return how many gateways a fleet has: one for 180 requests a second, and two at least."""
    return max(2, engines // 16)


@dataclass(frozen=True)
class Traffic:
    """Requests; each has an entry of every list. Times are in seconds."""

    arrival: Sequence[float]
    adapter: Sequence[int]
    gateway: Sequence[int]
    seconds: Sequence[float]


def traffic(model: Model, engines: int, requests: int, *, seed: int = 0) -> Traffic:
    """Draw requests; the same for every rule."""
    rng = np.random.default_rng(seed)
    rate = model.busy * model.at_once * engines / model.answer_seconds
    popularity = 1 / np.arange(1, model.adapters + 1)
    totals = np.cumsum(popularity / popularity.sum())
    return Traffic(
        arrival=np.cumsum(rng.exponential(1 / rate, requests)).tolist(),
        adapter=np.searchsorted(totals, rng.random(requests)).tolist(),
        gateway=rng.integers(gateways_of(engines), size=requests).tolist(),
        seconds=rng.exponential(model.answer_seconds, requests).tolist(),
    )


class Gateway:
    """What a gateway knows: its own requests by engine, and what engines hold."""

    def __init__(self, engines: int, slots: int) -> None:
        self.running = [0] * engines
        self.holders: Mapping[int, frozenset[int]] = {}  # adapter -> engines, as they told last
        self.loading = defaultdict[int, set[int]](set)  # what it began since then
        self._slots = slots
        self._adapters = [Counter[int]() for _ in range(engines)]
        self._full = set[int]()  # engines whose slots all run adapters of this gateway

    def begin(self, engine: int, adapter: int) -> None:
        """Note a request."""
        self.running[engine] += 1
        self._adapters[engine][adapter] += 1
        self.loading[adapter].add(engine)
        self._note(engine)

    def end(self, engine: int, adapter: int) -> None:
        """Note the end of a request."""
        self.running[engine] -= 1
        self._adapters[engine][adapter] -= 1
        if not self._adapters[engine][adapter]:
            del self._adapters[engine][adapter]
        self._note(engine)

    def _note(self, engine: int) -> None:
        full = len(self._adapters[engine]) >= self._slots
        (self._full.add if full else self._full.discard)(engine)

    def holders_of(self, adapter: int) -> Set[int]:
        """Return the engines that have the adapter in memory, as far as is known."""
        return self.holders.get(adapter, frozenset()) | self.loading.get(adapter, frozenset())

    def roomy(self, adapter: int) -> Collection[int]:
        """Return the engines in which the adapter gets a slot; all if there is none."""
        everyone = range(len(self.running))
        if not self._full:
            return everyone
        others = [len(own) - (adapter in own) for own in self._adapters]
        return {n for n in everyone if others[n] < self._slots} or everyone


Rule: TypeAlias = Callable[[int, Gateway], int]  # from an adapter to an engine


def at_random(_engines: int) -> Rule:
    """Return a rule that takes any engine."""
    draw = random.Random(0)
    return lambda _adapter, gateway: draw.randrange(len(gateway.running))


def least_busy(_engines: int) -> Rule:
    """Return a rule that takes one of the engines with the fewest requests."""
    draw = random.Random(0)

    def rule(_adapter: int, gateway: Gateway) -> int:
        least = min(gateway.running)
        return draw.choice([n for n, running in enumerate(gateway.running) if running == least])

    return rule


def placed(engines: int) -> Rule:
    """Return the gateway's rule: `choose`, with each adapter's order remembered."""
    urls = {url: number for number, url in enumerate(urls_of(engines))}

    @functools.cache
    def ranks(adapter: int) -> tuple[Sequence[int], Mapping[int, int]]:
        ranked = [urls[url] for url in order(name_of(adapter), urls)]
        return ranked, {engine: rank for rank, engine in enumerate(ranked)}

    def rule(adapter: int, gateway: Gateway) -> int:
        ranked, rank = ranks(adapter)
        running, roomy = gateway.running, gateway.roomy(adapter)
        least = min(running) if len(roomy) == engines else min(running[n] for n in roomy)
        most = least + SLACK
        resident = [n for n in gateway.holders_of(adapter) if running[n] <= most and n in roomy]
        if resident:
            return min(resident, key=lambda n: (running[n], rank[n]))
        return next(n for n in ranked if running[n] <= most and n in roomy)

    return rule


def name_of(adapter: int) -> str:
    """Return the digest of an adapter."""
    return f"{adapter:064x}"


def urls_of(engines: int) -> Sequence[str]:
    """Return the URLs of so many engines."""
    return [f"http://engine-{number}:8000" for number in range(engines)]


RULES: Mapping[str, Callable[[int], Rule]] = {
    "random": at_random, "least busy": least_busy, "weft": placed,
}  # fmt: skip


@dataclass
class Engine:
    """An engine and its node."""

    free: int
    waiting: deque[int] = field(default_factory=deque)  # numbers of requests
    running: Counter[int] = field(default_factory=Counter)  # requests by adapter
    memory: OrderedDict[int, None] = field(default_factory=OrderedDict)
    disk: OrderedDict[int, None] = field(default_factory=OrderedDict)
    answered: int = 0


def use(kept: OrderedDict[int, None], adapter: int, most: int) -> bool:
    """Note the use of an adapter among those kept; return whether it was there."""
    hit = adapter in kept
    kept[adapter] = None
    kept.move_to_end(adapter)
    if len(kept) > most:
        kept.popitem(last=False)
    return hit


class Simulation:
    """One rule on a number of engines. The figures are those of the second half of the requests."""

    def __init__(self, model: Model, engines: int, rule: Rule, requests: Traffic) -> None:
        self._model, self._rule, self._requests = model, rule, requests
        self._engines = [Engine(model.at_once) for _ in range(engines)]
        gateways = range(max(requests.gateway) + 1)
        self._gateways = [Gateway(engines, model.slots) for _ in gateways]
        self._ends: list[tuple[float, int, int]] = []  # (seconds, request, engine)
        self._counted_from = len(requests.arrival) // 2
        self._waits: list[float] = []
        self._loads = self._fetches = 0

    def run(self) -> dict[str, float]:
        """Answer every request; return the figures."""
        next_news = 0.0
        for request, now in enumerate(self._requests.arrival):
            while self._ends and self._ends[0][0] <= now:
                self._end(*heapq.heappop(self._ends))
            if now >= next_news:
                next_news = now + self._model.news_seconds
                self._tell()
            self._arrive(request, now)
        while self._ends:
            self._end(*heapq.heappop(self._ends))
        return self._figures()

    def _tell(self) -> None:
        holders: defaultdict[int, set[int]] = defaultdict(set)
        for number, engine in enumerate(self._engines):
            for adapter in engine.memory:
                holders[adapter].add(number)
        told = {adapter: frozenset(numbers) for adapter, numbers in holders.items()}
        for gateway in self._gateways:
            gateway.holders = told
            gateway.loading.clear()

    def _arrive(self, request: int, now: float) -> None:
        adapter = self._requests.adapter[request]
        gateway = self._gateways[self._requests.gateway[request]]
        number = self._rule(adapter, gateway)
        gateway.begin(number, adapter)
        self._engines[number].waiting.append(request)
        self._begin(number, now)

    def _begin(self, number: int, now: float) -> None:
        """Begin what can run of what waits: the first ones whose adapters have a slot."""
        engine, model = self._engines[number], self._model
        for request in list(engine.waiting) if engine.free else ():
            adapter = self._requests.adapter[request]
            if adapter not in engine.running and len(engine.running) >= model.slots:
                continue
            engine.waiting.remove(request)
            engine.free -= 1
            engine.running[adapter] += 1
            loads = not use(engine.memory, adapter, model.in_memory)
            fetches = loads and not use(engine.disk, adapter, model.on_disk)
            loading = loads * model.load_seconds + fetches * model.fetch_seconds
            if request >= self._counted_from:
                self._waits.append(now - self._requests.arrival[request] + loading)
                self._loads += loads
                self._fetches += fetches
                engine.answered += 1
            end = now + loading + self._requests.seconds[request]
            heapq.heappush(self._ends, (end, request, number))
            if not engine.free:
                return

    def _end(self, now: float, request: int, number: int) -> None:
        engine, adapter = self._engines[number], self._requests.adapter[request]
        engine.free += 1
        engine.running[adapter] -= 1
        if not engine.running[adapter]:
            del engine.running[adapter]
        self._gateways[self._requests.gateway[request]].end(number, adapter)
        self._begin(number, now)

    def _figures(self) -> dict[str, float]:
        counts = [engine.answered for engine in self._engines]
        waits = np.array(self._waits)
        return {
            "hit_rate": 1 - self._loads / len(waits),
            "fetches_of_100": 100 * self._fetches / len(waits),
            "busiest": max(counts) * len(counts) / sum(counts),
            "wait_p50_ms": 1000 * float(np.quantile(waits, 0.5)),
            "wait_p99_ms": 1000 * float(np.quantile(waits, 0.99)),
        }


def main() -> None:
    """Print the table and write build/bench-placement.json."""
    model, table = Model(), dict[str, dict[str, dict[str, float]]]()
    for engines in ENGINES:
        requests = min(MOST_REQUESTS, REQUESTS_OF_AN_ENGINE * engines)
        drawn = traffic(model, engines, requests)
        for name, make in RULES.items():
            started = time.process_time()
            figures = Simulation(model, engines, make(engines), drawn).run()
            table.setdefault(str(engines), {})[name] = figures
            line = "  ".join(f"{key} {value:9.3f}" for key, value in figures.items())
            seconds = time.process_time() - started
            sys.stdout.write(f"{engines:4} engines  {name:10}  {line}  ({seconds:.1f} s)\n")
            sys.stdout.flush()
    Path("build").mkdir(exist_ok=True)
    Path("build/bench-placement.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
