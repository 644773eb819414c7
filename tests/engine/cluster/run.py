"""One run: compositions under load while parts of the cluster are lost, and come back.

At the end every answer is compared with what transformers and PEFT compute from the files of its
digest.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from registry.storage.blobs import LocalBlobs
from server.cli.demo import import_demo_adapters
from server.settings import Settings
from server.stores import artifact_bucket
from tests.engine.churn.check import Reference, by_digest
from tests.engine.churn.requests import Ask, Draw, compositions, prompts
from tests.engine.cluster.clients import HEADER, Clients, Phase
from tests.engine.cluster.machines import EngineMachine, Program, gateway
from tests.engine.gateway import BASE, free_port, serve_settings
from tests.postgresql import Server, serve
from tests.seaweed import Seaweed, seaweed

GONE_SECONDS, CALM_SECONDS = 20.0, 20.0
# Of the folders of engines: a fraction of the compositions, so that nodes fetch all the time.
BUDGET_BYTES = 40 * 2**20


@dataclass(frozen=True, slots=True)
class Cluster:
    """The parts, each of which can be lost."""

    database: Server
    store: Seaweed
    engines: Sequence[EngineMachine]
    gateways: Sequence[Program]
    urls: Sequence[str]  # of the gateways
    settings: Settings  # of a client of the same database and store


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start two gateways, two engines, a database and a store, and end them."""
    with ExitStack() as stack:
        database = stack.enter_context(serve())
        store = stack.enter_context(seaweed(folder / "store"))
        stack.enter_context(patch.dict(os.environ, store.environ))
        common = {
            "database_url": database.create(), "store": store.url, "max_loras": 4,
            "max_cpu_loras": 16, "engine_probe_seconds": 10, "store_retry_seconds": 2,
        }  # fmt: skip
        own = serve_settings(folder / "own", **common)
        own.home.mkdir()
        import_demo_adapters(own)
        engines = [
            EngineMachine(
                serve_settings(folder / f"node-{n}", artifact_budget_bytes=BUDGET_BYTES, **common)
            )
            for n in range(2)
        ]
        for engine in engines:
            stack.callback(engine.kill)
            engine.start()
        for engine in engines:
            engine.engine.wait()
        places = [
            serve_settings(folder / f"gateway-{n}", port=free_port(), **common) for n in range(2)
        ]
        gateways = [gateway(place, [engine.url for engine in engines]) for place in places]
        for program in gateways:
            stack.callback(program.kill)
            program.start()
        for program in gateways:
            program.wait()
        urls = [f"http://127.0.0.1:{place.port}" for place in places]
        yield Cluster(database, store, engines, gateways, urls, own)


async def lose(made: Cluster, clients: Clients, say: Callable[[str], None]) -> None:
    """Lose each part once, and let clients go on meanwhile."""
    loop = asyncio.get_running_loop()

    async def in_thread(work: Callable[[], None]) -> None:
        await loop.run_in_executor(None, work)

    async def phase(name: str, work: Awaitable[None]) -> None:
        clients.phases.append(Phase(name))
        await work
        say(clients.phase.row())
        clients.phases.append(Phase("nothing"))
        await asyncio.sleep(CALM_SECONDS)
        say(clients.phase.row())

    async def gone(stop: Callable[[], None], start: Callable[[], None]) -> None:
        await in_thread(stop)
        await asyncio.sleep(GONE_SECONDS)
        await in_thread(start)

    def restart(program: Program) -> None:
        program.start()
        program.wait()

    engine, (first, _) = made.engines[0].engine, made.gateways
    await asyncio.sleep(CALM_SECONDS)
    say(clients.phase.row())
    await phase("an engine, killed", gone(engine.kill, lambda: restart(engine)))
    await phase("a gateway, killed", gone(first.kill, lambda: restart(first)))
    await phase("the object store", gone(made.store.stop, made.store.start))
    await phase("the database", gone(made.database.stop, made.database.start))
    clients.running = False


async def run(made: Cluster, count: int, say: Callable[[str], None]) -> list[str]:
    """Merge `count` compositions, lose each part under load, and return what was wrong."""
    draw, expressions = Draw(1), compositions(1, count)
    clients = Clients(made.urls, draw)
    clients.phases = [Phase(f"nothing; {count} compositions are merged")]
    rest = iter(expressions)

    async def merge() -> None:
        for number, expression in enumerate(rest):
            await clients.until_answered(Ask(expression, prompts()[number % 8], stream=False))

    async with clients:
        await asyncio.gather(*(merge() for _ in range(4)))
        say(HEADER)
        say(clients.phase.row())
        clients.phases.append(Phase("nothing"))
        await asyncio.gather(clients.run(), lose(made, clients, say))
    wrong = [problem for phase in clients.phases for problem in phase.problems]
    return wrong + await asyncio.to_thread(compare, made, clients)


def compare(made: Cluster, clients: Clients) -> list[str]:
    """Return a sentence for each answer that is not the greedy one of its digest."""
    bucket, reference, wrong = artifact_bucket(made.settings), Reference(), list[str]()
    assert bucket is not None
    local = LocalBlobs(made.settings.home / "compared")
    for digest, answers in by_digest(clients.answers).items():
        folder = Path() if digest == BASE else bucket.fetch(digest, local)
        wrong += reference.wrong(digest, folder, answers)
    return wrong


def main(count: int, say: Callable[[str], None]) -> int:
    """Run and return the number of things that were wrong."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder)) as made:
        say(f"The cluster is up after {time.monotonic() - began:.0f} s.\n")
        wrong = asyncio.run(run(made, count, say))
    say("\n".join(["", f"{len(wrong)} wrong, {time.monotonic() - began:.0f} s", *wrong]))
    return len(wrong)
