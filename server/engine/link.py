"""Where an engine is, whether it is up, and the end of one that serves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from server.engine.protocol import EngineUnavailable

RESTART_SECONDS = 10  # what clients are told to wait for an engine that is lost


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The URL of an engine and the key that it expects."""

    url: str
    key: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The header that every request to the engine bears."""
        return {"authorization": f"Bearer {self.key}"} if self.key else {}


class Outage:
    """Tells those who wait for an engine's answers that it is lost."""

    def __init__(self) -> None:
        self._lost: asyncio.Future[EngineUnavailable] | None = None

    def future(self) -> asyncio.Future[EngineUnavailable]:
        """Return a future whose result is the error for the requests that are in flight then."""
        if self._lost is None:
            self._lost = asyncio.get_running_loop().create_future()
        return self._lost

    @asynccontextmanager
    async def ends(self) -> AsyncIterator[None]:
        """Run what asks the engine; it ends at once when the engine of this moment is lost.

        Raises:
            EngineUnavailable: the engine was lost; what is inside was cancelled.
        """
        lost, loop = self.future(), asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as scope:  # a cancellation that is told from others

                def end(_: asyncio.Future[EngineUnavailable]) -> None:
                    scope.reschedule(loop.time())

                lost.add_done_callback(end)
                try:
                    yield
                finally:
                    lost.remove_done_callback(end)
        except TimeoutError:
            if not scope.expired():
                raise
            raise lost.result() from None

    def declare(self, reason: str) -> None:
        """End what is in flight now; later requests get a new future."""
        lost, self._lost = self._lost, None
        if lost is not None and not lost.done():
            lost.set_result(EngineUnavailable(reason, RESTART_SECONDS))


class Link(Protocol):
    """Tells whether an engine is up, and where: a supervised child, or one started elsewhere."""

    outage: Outage

    @property
    def name(self) -> str:
        """What gateways call the engine: its URL, or `child`."""
        ...

    @property
    def generation(self) -> int:
        """Changes whenever the engine may have lost its memory."""
        ...

    def endpoint(self) -> Endpoint:
        """Return where to send. Raises EngineUnavailable while the engine is not ready."""
        ...


class Fixed:
    """A link to an engine that is assumed to be up."""

    def __init__(self, where: Endpoint) -> None:
        self._where, self.name = where, where.url
        self.generation = 0
        self.outage = Outage()

    def endpoint(self) -> Endpoint:
        """Return the one endpoint."""
        return self._where
