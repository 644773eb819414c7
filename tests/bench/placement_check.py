"""Compares the simulation of the placement with engines behind the gateway's own fleet.

Run it with `make bench-placement`. The engines are processes that answer over HTTP as the model
says: a place and a slot are waited for, an adapter that is not in memory takes a while to load, and
an answer takes the time that its request names. Two fleets, as of two gateways, send them the very
requests that the simulation answers. Not covered: merging, the registry, and vLLM.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
from aiohttp import web

from server.engine.client import VllmEngine
from server.engine.fleet import Fleet
from server.engine.link import Endpoint, Fixed
from tests.bench.placement import Model, Simulation, Traffic, placed, traffic, use
from tests.engine.gateway import free_port

OUT = Path("build") / "bench-placement-check.json"
ENGINES, REQUESTS = (2, 4), 3000
MODEL = Model(answer_seconds=0.4, load_seconds=0.02, fetch_seconds=0.12)


class StubEngine:
    """An engine of the model, in real time."""

    def __init__(self, model: Model) -> None:
        self._model, self._free = model, model.at_once
        self._running = Counter[str]()
        self._memory = OrderedDict[int, None]()
        self._disk = OrderedDict[int, None]()
        self._changed = asyncio.Condition()

    async def adapters(self, _request: web.Request) -> web.Response:
        """Tell what is in memory and runs."""
        resident = [f"{adapter:064x}" for adapter in self._memory]
        return web.json_response(
            {"known": resident, "resident": resident, "running": dict(self._running)}
        )

    async def answer(self, request: web.Request) -> web.Response:
        """Wait, load and answer; tell the seconds until then and what was loaded."""
        body, arrived = await request.json(), time.perf_counter()
        digest, adapter = body["model"], int(body["model"], 16)
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_room(digest))
            self._free -= 1
            self._running[digest] += 1
        loads = not use(self._memory, adapter, self._model.in_memory)
        fetches = loads and not use(self._disk, adapter, self._model.on_disk)
        loading = loads * self._model.load_seconds + fetches * self._model.fetch_seconds
        await asyncio.sleep(loading)
        waited = time.perf_counter() - arrived
        await asyncio.sleep(body["seconds"])
        async with self._changed:
            self._free += 1
            self._running[digest] -= 1
            self._running += Counter()  # without zeros
            self._changed.notify_all()
        return web.json_response({"waited": waited, "loads": loads, "fetches": fetches})

    def _has_room(self, digest: str) -> bool:
        slot = digest in self._running or len(self._running) < self._model.slots
        return self._free > 0 and slot


@contextmanager
def stub_engines(count: int) -> Iterator[Sequence[Endpoint]]:
    """Run engines and yield where they are."""
    ports = [free_port() for _ in range(count)]
    module = "tests.bench.placement_check"
    processes = [subprocess.Popen([sys.executable, "-m", module, str(port)]) for port in ports]
    try:
        for port in ports:
            while True:
                with suppress(httpx.TransportError):
                    if httpx.get(f"http://127.0.0.1:{port}/weft/adapters", trust_env=False):
                        break
                time.sleep(0.1)
        yield [Endpoint(f"http://127.0.0.1:{port}") for port in ports]
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def measured(endpoints: Sequence[Endpoint], requests: Traffic) -> dict[str, float]:
    """Send the requests through a fleet for each gateway; return the figures of the second half."""
    fleets = [
        Fleet([VllmEngine(Fixed(one)) for one in endpoints], slots=MODEL.slots)
        for _ in range(max(requests.gateway) + 1)
    ]
    looking = [asyncio.create_task(fleet.keep_informed()) for fleet in fleets]
    answers: list[tuple[str, dict[str, Any]]] = []
    start = time.perf_counter()

    async def send(number: int) -> None:
        await asyncio.sleep(max(0.0, start + requests.arrival[number] - time.perf_counter()))
        digest = f"{requests.adapter[number]:064x}"
        body = json.dumps({"model": digest, "seconds": requests.seconds[number]}).encode()
        with fleets[requests.gateway[number]].at(digest) as engine:
            fleets[requests.gateway[number]].note_loading(engine, digest)
            async with engine.send("/v1/completions", body, model=digest) as answer:
                document = json.loads(await answer.read())
        if number >= len(requests.arrival) // 2:
            answers.append((engine.name, document))

    numbers = range(len(requests.arrival))
    await asyncio.gather(*(send(number) for number in numbers))
    for task in looking:
        task.cancel()
    for engine in (engine for fleet in fleets for engine in fleet.engines):
        await cast("VllmEngine", engine).close()
    counts = Counter(name for name, _ in answers)
    waits = np.array([answer["waited"] for _, answer in answers])
    return {
        "hit_rate": 1 - sum(answer["loads"] for _, answer in answers) / len(answers),
        "fetches_of_100": 100 * sum(answer["fetches"] for _, answer in answers) / len(answers),
        "busiest": max(counts.values()) * len(endpoints) / len(answers),
        "wait_p50_ms": 1000 * float(np.quantile(waits, 0.5)),
        "wait_p99_ms": 1000 * float(np.quantile(waits, 0.99)),
    }


def compare() -> None:
    """Print both figures side by side, and write them."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for engines in ENGINES:
        requests = traffic(MODEL, engines, REQUESTS)
        simulated = Simulation(MODEL, engines, placed(engines), requests).run()
        with stub_engines(engines) as endpoints:
            real = asyncio.run(measured(endpoints, requests))
        table[str(engines)] = {"simulated": simulated, "measured": real}
        for name in simulated:
            line = f"{engines} engines  {name:15} {simulated[name]:9.3f} {real[name]:9.3f}\n"
            sys.stdout.write(line)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(table, indent=1) + "\n")


def main() -> None:
    """Compare, or be an engine at the port of the command line."""
    if len(sys.argv) == 1:
        compare()
        return
    engine, app = StubEngine(MODEL), web.Application()
    app.router.add_get("/weft/adapters", engine.adapters)
    app.router.add_post("/v1/completions", engine.answer)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)


if __name__ == "__main__":
    main()
