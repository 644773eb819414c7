"""What the gateway adds to an engine: throughput and time to first token, at 1, 8 and 64 streams.

The engine is asked directly, through a bare relay, and through the gateway by name and as a
composition that is built. Ratios are of medians. All processes share the machine: on two cores the
gateway takes time from the engine, which a GPU would not need.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from server.engine.link import Endpoint
from tests.bench.serve.load import Figures, Part, Table, Target, compare, ratio, table_lines
from tests.engine.gateway import Weft, free_port

ROUNDS = 5
REQUESTS = {1: 12, 8: 64, 64: 256}  # of one round
COMPOSITION = "linear(zorp, blim; rank=16)"


@contextmanager
def bare_relay(engine: Endpoint) -> Iterator[Endpoint]:
    """Run a bare relay in front of the engine."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.serve.bare_relay", engine.url, str(engine.key)]
    process = subprocess.Popen([*command, str(port)])
    try:
        yield Endpoint(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


async def measure(weft: Weft) -> Part:
    """Compare the gateway with its engine and with a bare relay."""
    with bare_relay(weft.engine_endpoint()) as relay:
        table = await compare(targets_of(weft, relay), rounds=ROUNDS, requests=REQUESTS)
    return Part(
        "what the gateway adds: requests a second, and milliseconds to the first token",
        table_lines(table),
        ratios(table),
    )


def targets_of(weft: Weft, relay: Endpoint) -> dict[str, Target]:
    """Return what is measured; the engine itself and the bare relay are asked by digest."""
    digest = weft.registry.catalogue.adapter("zorp").digest
    gateway = Endpoint(weft.url)
    return {
        "the engine, asked directly": Target(weft.engine_endpoint(), [digest]),
        "a bare relay": Target(relay, [digest]),
        "the gateway, an adapter by name": Target(gateway, ["zorp@prod"]),
        "the gateway, a composition": Target(gateway, [COMPOSITION]),
    }


def ratios(table: Table) -> dict[str, dict[str, float]]:
    """Return the ratios to the engine asked directly, and of the composition to the adapter."""
    engine, relay, name, composition = table.values()

    def added(one: Mapping[int, Figures]) -> dict[str, float]:
        return {str(n): round(one[n].first_ms - engine[n].first_ms, 2) for n in one}

    return {
        "throughput_ratio": ratio(name, engine), "ttft_added_ms": added(name),
        "bare_relay_ratio": ratio(relay, engine), "bare_relay_ttft_added_ms": added(relay),
        "warm_ratio": ratio(composition, name),
    }  # fmt: skip
