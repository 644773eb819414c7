"""weft's CPU kernels against vLLM's own: four adapters in a batch, at 1, 8 and 64 streams.

Two engines with one command line, one of them without weft's plug-in, are asked directly, in
alternating rounds. vLLM's kernels have faults (server/engine/cpu_kernels.py), none of which these
requests meet: all of them name an adapter.
"""

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from server.engine.command import engine_command
from server.engine.link import Endpoint
from server.settings import Settings
from tests.bench.serve.load import Part, Table, Target, compare, ratio, table_lines
from tests.engine.gateway import ADAPTERS, DEMO, START_SECONDS, free_port, serve_settings

ROUNDS = 3
REQUESTS = {1: 8, 8: 32, 64: 64}  # of one round
ADAPTER_COUNT = 4


async def measure(home: Path) -> Part:
    """Start both engines and compare them."""
    models = ADAPTERS[:ADAPTER_COUNT]
    settings = serve_settings(home, max_loras=ADAPTER_COUNT)
    with ExitStack() as stack:
        starting = {
            name: stack.enter_context(engine(settings, plugins))
            for name, plugins in (("vLLM's own kernels", ""), ("weft's kernels", "weft"))
        }
        for endpoint in starting.values():
            wait(endpoint)
        targets = {name: Target(endpoint, models) for name, endpoint in starting.items()}
        return as_part(await compare(targets, rounds=ROUNDS, requests=REQUESTS))


def as_part(table: Table) -> Part:
    """Return the table, with ratios of weft's kernels to vLLM's."""
    stock, ours = table.values()
    speedup = ratio(ours, stock)
    words = " | ".join(f"{n:>2} streams x{x:.2f}" for n, x in speedup.items())
    return Part(
        f"LoRA kernels on the CPU, {ADAPTER_COUNT} adapters in a batch: requests a second, and "
        "milliseconds to the first token",
        [*table_lines(table), f"weft's over vLLM's own: {words}"],
        {"kernels": {
            "speedup": speedup,
            "before": {str(n): round(one.throughput, 2) for n, one in stock.items()},
            "after": {str(n): round(one.throughput, 2) for n, one in ours.items()},
        }},
    )  # fmt: skip


@contextmanager
def engine(settings: Settings, plugins: str) -> Iterator[Endpoint]:
    """Run an engine that knows the demo adapters by name, with these of vLLM's plug-ins."""
    endpoint = Endpoint(f"http://127.0.0.1:{free_port()}", secrets.token_urlsafe(8))
    command = engine_command(settings, int(endpoint.url.rpartition(":")[2]))
    command += ["--lora-modules", *(f"{name}={DEMO / 'adapters' / name}" for name in ADAPTERS)]
    environment = os.environ | {
        "VLLM_PLUGINS": plugins, "VLLM_API_KEY": str(endpoint.key), "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1", "WEFT_ARTIFACTS": str(settings.artifacts),
    }  # fmt: skip
    settings.home.mkdir(exist_ok=True)
    with (settings.home / f"engine-{plugins or 'stock'}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield endpoint
    finally:
        process.terminate()
        process.wait(60)


def wait(engine: Endpoint) -> None:
    """Return when an engine is ready."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{engine.url}/health", trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise TimeoutError("an engine did not start")
