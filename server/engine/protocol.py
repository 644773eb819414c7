"""What the gateway needs of an engine, and the ways in which an engine says no."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


class EngineError(Exception):
    """Base of the errors of an engine."""


class EngineUnavailable(EngineError):
    """The engine is starting, restarting or down; the same request may succeed later."""

    def __init__(self, reason: str, retry_after_seconds: int = 5) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(reason)


class EngineRefused(EngineError):
    """The engine refused to load an adapter; `reason` is the engine's message."""

    def __init__(self, digest: str, reason: str) -> None:
        self.digest, self.reason = digest, reason
        super().__init__(f"the engine refused to load {digest}: {reason}")


class EngineFailed(EngineError):
    """The engine failed on one request, without an error object, and still serves others."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"the engine failed on this request: {status} {body[:200]!r}")


class EngineLacksRoute(EngineError):
    """The engine does not have a route: for the model that it serves, or not at all."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"The engine has no {path} for the model that it serves. README.md says which routes "
            "an engine has."
        )


class EngineBusy(EngineError):
    """An adapter cannot be removed: running requests use it."""

    def __init__(self, digest: str, reason: str) -> None:
        self.digest, self.reason = digest, reason
        super().__init__(f"the engine still uses {digest}: {reason}")


@dataclass(frozen=True, slots=True)
class EngineAdapters:
    """The adapters of an engine. It may read the files of each digest here at any time.

    `known`: loaded since its start and not removed. `resident`: in its memory now. `running`:
    the number of running requests by digest.
    """

    known: frozenset[str]
    resident: frozenset[str]
    running: Mapping[str, int]


def together(parts: Iterable[EngineAdapters]) -> EngineAdapters:
    """Return the adapters of several engines."""
    known, resident = set[str](), set[str]()
    running: Counter[str] = Counter()
    for part in parts:
        known |= part.known
        resident |= part.resident
        running.update(part.running)
    return EngineAdapters(frozenset(known), frozenset(resident), running)


class EngineResponse(Protocol):
    """An answer whose body is still coming."""

    status: int
    headers: Mapping[str, str]

    async def begin(self) -> None:
        """Wait for the first part of a stream, or for the whole of any other body.

        Until then nothing has to be sent to the client, so that another engine can answer.

        Raises:
            EngineUnavailable: the engine is lost.
        """
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes as the engine sends them."""
        ...

    async def read(self) -> bytes:
        """Return the whole body."""
        ...


class Engine(Protocol):
    """One engine. Implementations: `VllmEngine` (client.py) and, for unit tests, `FakeEngine`.

    `Fleet` (fleet.py) has all engines of a base, and says which of them answers.
    """

    @property
    def name(self) -> str:
        """Its URL, or another name that all gateways know it by."""
        ...

    @property
    def generation(self) -> int:
        """A number that changes whenever the engine restarts, which empties its memory."""
        ...

    def available(self) -> bool:
        """Return whether requests can be sent now. Never blocks."""
        ...

    async def load(self, digest: str) -> None:
        """Load an artifact into the engine's memory. Idempotent. Needs its files and a lease.

        Raises:
            EngineRefused, EngineUnavailable
        """
        ...

    async def remove(self, digest: str) -> None:
        """Remove an artifact from the engine, so that its files may be deleted afterwards.

        Idempotent. No lease may be held.

        Raises:
            EngineBusy, EngineUnavailable: nothing was removed; the files must stay.
        """
        ...

    async def adapters(self) -> EngineAdapters:
        """Return the known, resident and running adapters. Raises EngineUnavailable."""
        ...

    def send(
        self, path: str, body: bytes, *, model: str
    ) -> AbstractAsyncContextManager[EngineResponse]:
        """POST a request; leaving the context aborts it in the engine too.

        Args:
            path: of the engine's API.
            body: JSON.
            model: which `body` names: the base, or the digest of an adapter, which then stays.

        Raises:
            EngineUnavailable: on entering, also where the engine's answer shows that it is lost; a
                break later surfaces from `chunks`. An engine that is lost meanwhile ends what is
                inside, and leaving raises.
            EngineFailed: it answered 500 without an error object and still serves.
        """
        ...


async def is_failed_load(response: EngineResponse) -> bool:
    """Return whether vLLM has tried in vain to load the adapter that a request names.

    It answers the same when its core dies meanwhile.
    """
    message = b"was found but could not be loaded"
    return response.status == 400 and message in await response.read()


def is_missing_route(body: bytes) -> bool:
    """Return whether the body of a 404 says that the path is unknown, rather than the model."""
    try:
        answer = json.loads(body)
    except ValueError:
        return True
    error = answer.get("error", answer) if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return True
    return "Not Found" in (error.get("message"), error.get("detail"))
