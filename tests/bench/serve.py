"""What the gateway adds to an engine: throughput and time to first token, at 1, 8 and 64 streams.

Run it with `make bench-serve`: one real vLLM, asked directly, through a bare relay, and through the
gateway by name and as a composition that is built. Rounds alternate, so that a busy machine slows
all of them, and ratios are of medians. All processes share the machine: on two cores the gateway
takes time from the engine, which a GPU would not need. Not covered: merging (`merge.py`).
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from server.cli.demo import import_demo_adapters
from server.engine.link import Endpoint
from tests.engine.gateway import Weft, free_port, running, serve_settings

STREAMS = (1, 8, 64)
ROUNDS = 5
TOKENS = 32
REQUESTS = {1: 12, 8: 64, 64: 256}  # of one round
COMPOSITION = "linear(zorp, blim; rank=16)"


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and what they name."""

    endpoint: Endpoint
    model: str


@dataclass(frozen=True, slots=True)
class Figures:
    """One round: requests in a second, and the median time to the first token in milliseconds."""

    throughput: float
    first_ms: float


async def load(target: Target, streams: int, requests: int) -> Figures:
    """Send streaming chats, `streams` at a time.

    Raises:
        aiohttp.ClientResponseError: an answer is not 200.
    """
    body = json.dumps({
        "model": target.model, "messages": [{"role": "user", "content": "zorp: banana"}],
        "max_tokens": TOKENS, "min_tokens": TOKENS, "temperature": 0, "stream": True,
    })  # fmt: skip
    headers = {"content-type": "application/json"} | target.endpoint.headers
    left, first = requests, list[float]()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, raise_for_status=True) as session:

        async def client() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                began = time.perf_counter()
                url = f"{target.endpoint.url}/v1/chat/completions"
                async with session.post(url, data=body, headers=headers) as answer:
                    await answer.content.readany()
                    first.append(1000 * (time.perf_counter() - began))
                    while await answer.content.readany():
                        pass

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(streams)))
        return Figures(requests / (time.perf_counter() - began), statistics.median(first))


@contextmanager
def bare_relay(engine: Endpoint) -> Iterator[Endpoint]:
    """Run a bare relay in front of the engine."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.bare_relay", engine.url, str(engine.key)]
    process = subprocess.Popen([*command, str(port)])
    try:
        yield Endpoint(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


async def measure(targets: Mapping[str, Target]) -> dict[str, dict[int, Figures]]:
    """Return the median figures of each target by streams."""
    rounds: dict[tuple[str, int], list[Figures]] = defaultdict(list)
    for target in reversed(list(targets.values())):  # the gateway loads what the others ask for
        await load(target, 8, 16)  # connections, kernels, merges
    for streams in STREAMS:
        for _ in range(ROUNDS):
            for name, target in targets.items():
                rounds[name, streams].append(await load(target, streams, REQUESTS[streams]))
    return {
        name: {streams: _median(rounds[name, streams]) for streams in STREAMS} for name in targets
    }


def _median(rounds: Sequence[Figures]) -> Figures:
    return Figures(
        statistics.median(one.throughput for one in rounds),
        statistics.median(one.first_ms for one in rounds),
    )


def targets_of(weft: Weft, relay: Endpoint) -> dict[str, Target]:
    """Return what is measured; the engine itself and the bare relay are asked by digest."""
    digest = weft.registry.catalogue.adapter("zorp").digest
    gateway = Endpoint(weft.url)
    return {
        "engine": Target(weft.engine_endpoint(), digest),
        "bare relay": Target(relay, digest),
        "by name": Target(gateway, "zorp@prod"),
        "composition": Target(gateway, COMPOSITION),
    }


def report(figures: Mapping[str, Mapping[int, Figures]]) -> dict[str, dict[str, float]]:
    """Return the ratios to the engine asked directly, within this run."""
    engine = figures["engine"]

    def ratio(name: str) -> dict[str, float]:
        return {
            str(n): round(figures[name][n].throughput / engine[n].throughput, 3) for n in STREAMS
        }

    def added(name: str) -> dict[str, float]:
        return {str(n): round(figures[name][n].first_ms - engine[n].first_ms, 2) for n in STREAMS}

    warm = {
        str(n): round(figures["composition"][n].throughput / figures["by name"][n].throughput, 3)
        for n in STREAMS
    }
    return {
        "throughput_ratio": ratio("by name"), "ttft_added_ms": added("by name"),
        "bare_relay_ratio": ratio("bare relay"), "bare_relay_ttft_added_ms": added("bare relay"),
        "warm_ratio": warm,
    }  # fmt: skip


def main() -> None:
    """Print the table and write build/bench-serve.json."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = serve_settings(Path(folder) / "home", max_loras=4)
        settings.home.mkdir()
        import_demo_adapters(settings)
        with running(settings) as weft, bare_relay(weft.engine_endpoint()) as relay:
            time.sleep(3)
            figures = asyncio.run(measure(targets_of(weft, relay)))
    for name, by_streams in figures.items():
        cells = (
            f"{n} streams {one.throughput:6.1f}/s first {one.first_ms:7.1f} ms"
            for n, one in by_streams.items()
        )
        sys.stdout.write(f"{name:12} {' | '.join(cells)}\n")
    document = report(figures)
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
    Path("build").mkdir(exist_ok=True)
    Path("build/bench-serve.json").write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
