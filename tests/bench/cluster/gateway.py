"""A gateway with another rule of placement: `python -m tests.bench.cluster.gateway RULE`.

It reads the settings from the environment, as `weft serve` does, and has the engines of
WEFT_ENGINE_URL. For each line on its standard input it writes a line of JSON: the requests for
adapters since the last one, and how many of them went to an engine that had the adapter in memory.
"""

import asyncio
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from unittest.mock import patch

import uvloop

from server.app import create_app
from server.base_model import ensure_base
from server.engine import fleet as fleets
from server.engine.client import VllmEngine
from server.engine.fleet import Fleet
from server.engine.link import Endpoint, Fixed
from server.engine.placement import SLACK, Candidate, choose
from server.engine.protocol import Engine
from server.gateway import Gateway
from server.home import open_registry
from server.preflight import bound_socket
from server.serve import GatewayServer, import_methods
from server.served_bases import ServedBase, ServedBases
from server.settings import Settings

# As often as residency is read here, the count of hits is as good.
NEWS_SECONDS = 0.1


def rule(name: str) -> Callable[..., Candidate]:
    """Return what is used in place of `placement.choose`."""
    draw = random.Random(0)

    def chosen(key: str, candidates: Sequence[Candidate], *, slack: int = SLACK) -> Candidate:
        if name == "weft":
            return choose(key, candidates, slack=slack)
        if name == "random":
            return draw.choice(candidates)
        least = min(one.running for one in candidates)
        return draw.choice([one for one in candidates if one.running == least])

    return chosen


class CountingFleet(Fleet):
    """A fleet that counts its requests for adapters, and those whose engine had it in memory."""

    requests = hits = 0

    @contextmanager
    def at(self, digest: str | None) -> Iterator[Engine]:
        """See `Fleet`."""
        with super().at(digest) as engine:
            if digest is not None:
                self.requests += 1
                self.hits += digest in self._members[engine.name].resident
            yield engine

    async def keep_informed(self) -> None:
        """Look at the engines often, also at one alone."""
        while True:
            await asyncio.gather(*(fleets._look(one) for one in list(self._members.values())))
            await asyncio.sleep(NEWS_SECONDS)

    async def report(self) -> None:
        """Answer lines of the standard input until it ends."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while await reader.readline():
            sys.stdout.write(json.dumps({"requests": self.requests, "hits": self.hits}) + "\n")
            sys.stdout.flush()
            self.requests = self.hits = 0


async def main() -> None:
    """Serve until the process is killed."""
    settings = Settings()
    registry, versions = open_registry(settings, statement_seconds=settings.statement_seconds)
    base = ensure_base(registry, settings).name
    key = settings.engine_key.get_secret_value() if settings.engine_key else None
    engines = [VllmEngine(Fixed(Endpoint(url, key))) for url in settings.engine_url]
    fleet = CountingFleet(engines, slots=settings.max_loras)
    async with AsyncExitStack() as stack:
        stack.enter_context(patch.object(fleets, "choose", rule(sys.argv[1])))
        bases = ServedBases([ServedBase(base, settings, fleet)])
        gateway = Gateway(settings, registry=registry, versions=versions, bases=bases)
        await gateway.builder.start()
        stack.push_async_callback(gateway.builder.stop)
        import_methods()
        tasks = [asyncio.create_task(fleet.keep_informed()), asyncio.create_task(fleet.report())]
        server = GatewayServer(create_app(gateway), gateway, None)
        with bound_socket(settings.host, settings.port) as bound:
            await server.serve(sockets=[bound])
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    uvloop.run(main())
