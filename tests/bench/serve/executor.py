"""Engines on the CPU that compute in vLLM's core, as weft starts them, against vLLM's own choice.

vLLM's choice is a worker process beside the core, whose threads are bound to cores and spin while
they wait. One engine, and two at once, of each kind, over the base of `make demo`, asked directly.
"""

import asyncio
import time
from pathlib import Path

from server.cli.demo_base import demo_base
from server.cli.demo_skills import skills_settings
from tests.bench.cluster.processes import engines
from tests.bench.serve.load import Part, Target, load
from tests.engine.gateway import free_port

# Arguments, and what threads do that wait for others.
KINDS = {
    "vLLM's choice": ("--distributed-executor-backend mp", "ACTIVE"),
    "weft's": ("", "PASSIVE"),
}
ENGINES = (1, 2)
REQUESTS = {1: 3, 8: 16}  # of a round, by streams; the first round warms
ROUNDS = 3


async def measure(home: Path) -> Part:
    """Start and load each number of engines of each kind."""
    lines = [f"{'':14} engines  ready after  " + "  ".join(f"{n:>2} streams" for n in REQUESTS)]
    document = {}
    for count in ENGINES:
        for kind, (arguments, waiting) in KINDS.items():
            seconds, answered = await _one(home, count, arguments, waiting)
            rates = "  ".join(f"{rate:10.2f}" for rate in answered.values())
            lines.append(f"{kind:14} {count:7}  {seconds:9.1f} s  {rates}")
            document[f"{kind}, {count}"] = {"seconds": seconds, "requests_per_second": answered}
    title = "Engines on the CPU: requests of 32 tokens that each engine answers in a second"
    return Part(title, lines, {"executor": document})


async def _one(
    home: Path, count: int, arguments: str, waiting: str
) -> tuple[float, dict[int, float]]:
    """Return seconds until all are ready, and requests a second of the slowest, by streams."""
    settings = skills_settings(home, free_port(), demo_base())
    settings = settings.model_copy(update={"engine_args": arguments})
    began = time.monotonic()
    with engines(settings, count, OMP_WAIT_POLICY=waiting) as started:
        seconds = time.monotonic() - began
        targets = [Target(one.endpoint, (settings.served_base,)) for one in started]
        rates = {}
        for streams, requests in REQUESTS.items():
            rounds = [
                await asyncio.gather(*(load(target, streams, requests) for target in targets))
                for _ in range(1 + ROUNDS)
            ][1:]
            slowest = sorted(min(one.throughput for one in each) for each in rounds)
            rates[streams] = slowest[ROUNDS // 2]
        return seconds, rates
