"""What a gateway asks of PostgreSQL, for a request and while it is idle; what a bucket gives.

Run it with `make bench-limits`. One `weft serve` on an embedded PostgreSQL, in front of a stub
engine that answers at once; a client with a key asks for an adapter by name and for a composition
that is merged already. CPU is read from the kernel, which a busy machine disturbs less than times.
deploy/SCALING.md does the arithmetic. Not covered: a network between them, disks that sync (the
embedded server does not), and vLLM.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import create_engine, text

from server.cli.demo import import_demo_adapters
from server.engine.link import Endpoint
from server.home import open_registry
from server.settings import Settings
from tests.bench import bucket_limits
from tests.bench.abuse import wait_for
from tests.bench.serve.load import session
from tests.engine.gateway import environment, free_port, serve_settings
from tests.postgresql import Server, serve

MODELS = {"an adapter by name": "zorp", "a composition": "linear(zorp, blim)"}
REQUESTS, COUNTED, CLIENTS = 4000, 200, 16
IDLE_SECONDS = 10.0
_TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = :name"


@dataclass
class Parts:
    """The processes that are measured."""

    postgresql: psutil.Process
    gateway: psutil.Process

    def seconds(self) -> tuple[float, float]:
        """Return the CPU seconds so far of PostgreSQL, and of the gateway with its children."""
        return _with_children(self.postgresql), _with_children(self.gateway)


def _with_children(process: psutil.Process) -> float:
    everyone = [process, *process.children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in everyone)


class Statements:
    """Counts what a database is asked, with the server's own statistics and its log."""

    def __init__(self, server: Server, url: str, log: Path) -> None:
        self._server, self._log = server, log
        self._engine = create_engine(url)

    def transactions(self) -> int:
        """Return the transactions so far; the server publishes them within a second."""
        time.sleep(1.5)
        with self._engine.connect() as connection:
            name = self._engine.url.database
            return int(connection.execute(text(_TRANSACTIONS), {"name": name}).scalar_one())

    @contextmanager
    def logged(self) -> Iterator[list[str]]:
        """Yield a list that has, on leaving, each statement that was run meanwhile."""
        statements: list[str] = []
        self._set("all")
        begin = self._log.stat().st_size
        try:
            yield statements
        finally:
            self._set("none")
        with self._log.open() as lines:
            lines.seek(begin)
            for line in lines:
                _, found, statement = line.partition("LOG:  ")
                if found and statement.startswith(("statement:", "execute ")):
                    statements.append(statement.partition(": ")[2].strip())

    def _set(self, which: str) -> None:
        self._server.run(f"ALTER SYSTEM SET log_statement = '{which}'")
        self._server.run("SELECT pg_reload_conf()")
        time.sleep(0.5)


async def ask(endpoint: Endpoint, model: str, requests: int) -> float:
    """Send chats from several clients; return the seconds that they took."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]})
    began = time.perf_counter()
    async with session(endpoint) as http:

        async def client() -> None:
            for _ in range(requests // CLIENTS):
                async with http.post("/v1/chat/completions", data=body) as answer:
                    await answer.read()

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return time.perf_counter() - began


@contextmanager
def gateway(settings: Settings) -> Iterator[int]:
    """Run `weft serve` on a stub engine, and yield its process id."""
    (url,) = settings.engine_url
    module = "tests.bench.serve.stub_engine"
    stub = subprocess.Popen([sys.executable, "-m", module, url.rpartition(":")[2]])
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "gateway.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "server.cli", "serve"],
            env=environment(settings), stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{settings.port}", process)
        yield process.pid
    finally:
        for child in (process, stub):
            child.terminate()
            child.wait()


def measure(parts: Parts, statements: Statements, endpoint: Endpoint) -> dict[str, Any]:
    """Return the figures of each kind of request, and of a gateway that is asked nothing."""
    figures: dict[str, Any] = {}
    for kind, model in MODELS.items():
        asyncio.run(ask(endpoint, model, COUNTED))  # merges, and fills caches
        with statements.logged() as ran:
            asyncio.run(ask(endpoint, model, COUNTED))
        before = statements.transactions()
        database, own = parts.seconds()
        seconds = asyncio.run(ask(endpoint, model, REQUESTS))
        database_after, own_after = parts.seconds()
        figures[kind] = {
            "statements": len(ran) / COUNTED,
            "transactions": (statements.transactions() - before) / REQUESTS,
            "postgresql_cpu_ms": 1000 * (database_after - database) / REQUESTS,
            "gateway_cpu_ms": 1000 * (own_after - own) / REQUESTS,
            "requests_per_second": REQUESTS / seconds,
        }
    with statements.logged() as ran:
        time.sleep(IDLE_SECONDS)
    database, own = parts.seconds()
    time.sleep(IDLE_SECONDS)
    database_after, own_after = parts.seconds()
    figures["idle, of a second"] = {
        "statements": len(ran) / IDLE_SECONDS,
        "postgresql_cpu_ms": 1000 * (database_after - database) / IDLE_SECONDS,
        "gateway_cpu_ms": 1000 * (own_after - own) / IDLE_SECONDS,
    }
    return figures


def postgresql() -> dict[str, Any]:
    """Return the figures of a gateway on an embedded PostgreSQL."""
    with serve() as server, tempfile.TemporaryDirectory() as folder:
        url = server.create()
        settings = serve_settings(
            Path(folder) / "home", database_url=url, engine_url=[f"http://127.0.0.1:{free_port()}"],
            self_test=False, job_devices=(),
        )  # fmt: skip
        import_demo_adapters(settings)
        registry, _ = open_registry(settings)
        _, key = registry.access.keys.create("bench", role="chat", namespace=None)
        log = Path(server._process.log)
        with gateway(settings) as pid:
            parts = Parts(psutil.Process(server._process.get_pid()), psutil.Process(pid))
            endpoint = Endpoint(f"http://127.0.0.1:{settings.port}", key)
            return measure(parts, Statements(server, url, log), endpoint)


def main() -> None:
    """Print the figures and write build/bench-limits.json."""
    with tempfile.TemporaryDirectory() as folder:
        figures = {**postgresql(), "a bucket": dict(bucket_limits.measure(Path(folder)))}
    for kind, values in figures.items():
        line = "  ".join(f"{name} {value:.2f}" for name, value in values.items())
        sys.stdout.write(f"{kind:20} {line}\n")
    Path("build").mkdir(exist_ok=True)
    Path("build/bench-limits.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
