"""Two gateways before two engines in place of one gateway and one engine, for the same tests.

Nothing is shared but a PostgreSQL and an object store: each gateway has a home of its own, and each
engine a folder of its own, which its node fills. Each request of a client goes to the next gateway.
"""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from server.engine.link import Endpoint
from tests.engine.cluster.machines import KEY, EngineMachine
from tests.engine.gateway import Weft, free_port, running, serve_settings
from tests.postgresql import serve


@dataclass(frozen=True, slots=True)
class Alternating(Weft):
    """Gateways as one. `settings` and `process` are those of the first."""

    gateways: tuple[Weft, ...]
    engines: tuple[Endpoint, ...]
    turns: Iterator[Weft]

    @property
    def url(self) -> str:
        """The URL of the next gateway."""
        return next(self.turns).url

    @property
    def pairs(self) -> int:
        """The number of gateways times that of engines."""
        return len(self.gateways) * len(self.engines)

    def workers(self) -> list[int]:
        """Return the process ids of the children of all gateways."""
        return [pid for gateway in self.gateways for pid in gateway.workers()]

    def hooks(self) -> dict[str, list[Any]]:
        """Send each request to the next gateway."""
        return {"request": [self._send_to_next]}

    async def _send_to_next(self, request: httpx.Request) -> None:
        request.url = request.url.copy_with(port=next(self.turns).settings.port)

    async def metric(self, name: str, labels: str = "") -> float:
        """Return the sum of one value over the gateways."""
        return sum([await gateway.metric(name, labels) for gateway in self.gateways])

    def engine_endpoint(self) -> Endpoint:
        """Return the address and key of the first engine."""
        return self.engines[0]


@contextmanager
def alternating(folder: Path, count: int, **changes: Any) -> Iterator[Alternating]:
    """Start gateways and as many engines; yield when all are ready, and end them.

    Args:
        folder: for everything that they write.
        count: of gateways, and of engines; an engine takes 2.5 GB.
        changes: settings of all of them.
    """
    with ExitStack() as stack:
        store = folder / "store"
        store.mkdir()
        shared = serve_settings(
            folder, database_url=stack.enter_context(serve()).create(), store=store.as_uri(),
            engine_key=SecretStr(KEY), **changes,
        )  # fmt: skip
        machines = [
            EngineMachine(shared.model_copy(update={"home": folder / f"machine-{number}"}))
            for number in range(count)
        ]
        for machine in machines:
            stack.callback(machine.kill)
            machine.start()
        for machine in machines:
            machine.engine.wait()
        urls = tuple(machine.url for machine in machines)
        gateways = []
        for number in range(count):
            own = {"home": folder / f"gateway-{number}", "port": free_port(), "engine_url": urls}
            gateways.append(stack.enter_context(running(shared.model_copy(update=own))))
        yield Alternating(
            gateways[0].settings, gateways[0].process, tuple(gateways),
            tuple(Endpoint(url, KEY) for url in urls), itertools.cycle(gateways),
        )  # fmt: skip
