"""What the gateway needs of an engine, and the ways in which an engine says no."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


class EngineError(Exception):
    """Base of what an engine can answer instead of doing what was asked."""


class EngineUnavailable(EngineError):
    """The engine is starting, restarting or gone; the same request may succeed later."""

    def __init__(self, reason: str, retry_after_seconds: int = 5) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(reason)


class EngineRefused(EngineError):
    """The engine would not load an adapter; `reason` is its own sentence."""

    def __init__(self, digest: str, reason: str) -> None:
        self.digest, self.reason = digest, reason
        super().__init__(f"the engine refused {digest}: {reason}")


class EngineBusy(EngineError):
    """An adapter cannot be removed: requests that the engine still runs use it."""

    def __init__(self, digest: str, reason: str) -> None:
        self.digest, self.reason = digest, reason
        super().__init__(f"the engine still uses {digest}: {reason}")


@dataclass(frozen=True, slots=True)
class EngineAdapters:
    """What an engine says of adapters; every digest here may be read from disk again at any time.

    `known`: named to the engine since it started and not removed for certain. `resident`: in its
    memory now. `running`: requests under way by digest.
    """

    known: frozenset[str]
    resident: frozenset[str]
    running: Mapping[str, int]


class EngineResponse(Protocol):
    """An answer under way."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes as the engine sends them."""
        ...

    async def read(self) -> bytes:
        """Return the whole body."""
        ...


class Engine(Protocol):
    """One engine. Implementations: `VllmEngine` (client.py) and, for unit tests, `FakeEngine`."""

    @property
    def generation(self) -> int:
        """A number that changes whenever the engine lost its memory (a restart)."""
        ...

    def available(self) -> bool:
        """Say whether requests can be sent now. Never blocks."""
        ...

    async def load(self, digest: str) -> None:
        """Put an artifact into the engine's memory; idempotent. Needs: its files, a lease.

        Raises:
            EngineRefused, EngineUnavailable
        """
        ...

    async def remove(self, digest: str) -> None:
        """Make the engine forget an artifact for certain: afterwards its files may be deleted.

        Idempotent. Needs: no lease held.

        Raises:
            EngineBusy, EngineUnavailable: nothing was removed; the files must stay.
        """
        ...

    async def adapters(self) -> EngineAdapters:
        """Return what is known, resident and running. Raises EngineUnavailable."""
        ...

    def send(self, path: str, body: bytes) -> AbstractAsyncContextManager[EngineResponse]:
        """POST a request; leaving the context ends it in the engine too.

        Raises:
            EngineUnavailable: on entering; a break later surfaces from `chunks`.
        """
        ...
