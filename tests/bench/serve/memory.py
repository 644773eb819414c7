"""The gateway's memory under junk: 100,000 requests, half of them for 10,000 names of nothing.

A gateway in front of a stub engine, which keeps nothing; the other half of the requests are chats
with an adapter. Memory is what the process has resident, in MiB.
"""

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from server.cli.demo import import_demo_adapters
from server.engine.link import Endpoint
from server.settings import Settings
from tests.bench.abuse import wait_for
from tests.bench.serve.load import Part, session
from tests.engine.gateway import environment, free_port, serve_settings

NAMES = 10_000
MARKS = (1_000, 10_000, 25_000, 50_000, 75_000, 100_000)  # requests after which memory is read
CLIENTS = 16


async def measure(home: Path) -> Part:
    """Send the requests and read the gateway's memory on the way."""
    settings = serve_settings(home)
    settings.home.mkdir(exist_ok=True)
    import_demo_adapters(settings)
    with gateway(settings) as process:
        memory = await after_requests(Endpoint(f"http://127.0.0.1:{settings.port}"), process.pid)
    grown = memory[MARKS[-1]] - memory[10_000]
    words = " | ".join(f"{count:,}: {mib:.1f}" for count, mib in memory.items())
    return Part(
        f"the gateway's memory after requests, half of them for {NAMES:,} junk names, MiB "
        "(aim: flat)",
        [words, f"from 10,000 to {MARKS[-1]:,} requests: {grown:+.1f} MiB"],
        {"memory_mb": {str(count): round(mib, 1) for count, mib in memory.items()}},
    )


async def after_requests(gateway: Endpoint, pid: int) -> Mapping[int, float]:
    """Return the MiB of a process by the requests that it has answered."""
    memory = {0: resident(pid)}
    numbers = itertools.count()
    async with session(gateway) as http:

        async def client(until: int) -> None:
            for number in numbers:
                model = f"junk-{number // 2 % NAMES}-{'x' * 50}" if number % 2 else "zorp"
                body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
                async with http.post(
                    "/v1/chat/completions", data=json.dumps(body), raise_for_status=False
                ) as answer:
                    await answer.read()
                    expected = 404 if number % 2 else 200
                    assert answer.status == expected, await answer.text()
                if number >= until:
                    return

        for mark in MARKS:
            await asyncio.gather(*(client(mark) for _ in range(CLIENTS)))
            memory[mark] = resident(pid)
    return memory


def resident(pid: int) -> float:
    """Return the MiB of memory that a process has resident."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))


@contextmanager
def gateway(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a gateway in front of a stub engine, and yield its process."""
    port = free_port()
    stub = subprocess.Popen([sys.executable, "-m", "tests.bench.serve.stub_engine", str(port)])
    with (settings.home / "gateway.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.fake_gateway", f"http://127.0.0.1:{port}"],
            env=environment(settings), stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{settings.port}", process)
        yield process
    finally:
        for child in (process, stub):
            child.kill()
            child.wait()
