"""Client of a vLLM with weft's plug-in: load, remove and list adapters, and relay requests."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from server.engine.protocol import (
    EngineAdapters,
    EngineBusy,
    EngineRefused,
    EngineUnavailable,
)

_LOAD_SECONDS = 120.0
# Bytes are relayed as they come, so the engine must not compress them.
_RELAY_HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}
# Below the engine's five seconds, so that no request is sent on a connection that it closes.
_IDLE_SECONDS = 2.0
# A generation may take any time; only connecting is limited.
_RELAY_TIMEOUT = httpx.Timeout(None, connect=5.0)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The URL of an engine and the key that it expects."""

    url: str
    key: str | None = field(default=None, repr=False)


class Link(Protocol):
    """Tells whether an engine is up, and where: a supervised child, or one started elsewhere."""

    @property
    def generation(self) -> int:
        """Changes whenever the engine may have lost its memory."""
        ...

    def endpoint(self) -> Endpoint:
        """Return where to send. Raises EngineUnavailable while the engine is not ready."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """A link to an engine that is assumed to be up."""

    where: Endpoint
    generation: int = 0

    def endpoint(self) -> Endpoint:
        """Return the one endpoint."""
        return self.where


class VllmEngine:
    """The `Engine` protocol over HTTP."""

    def __init__(self, link: Link) -> None:
        self._link = link
        limits = httpx.Limits(
            max_connections=None, max_keepalive_connections=64, keepalive_expiry=_IDLE_SECONDS
        )
        # trust_env=False: a proxy of the environment must not see loopback traffic.
        self._http = httpx.AsyncClient(timeout=_RELAY_TIMEOUT, limits=limits, trust_env=False)

    @property
    def generation(self) -> int:
        """See `Engine`."""
        return self._link.generation

    def available(self) -> bool:
        """See `Engine`."""
        try:
            self._link.endpoint()
        except EngineUnavailable:
            return False
        return True

    async def load(self, digest: str) -> None:
        """See `Engine`."""
        response = await self._call("POST", f"/weft/adapters/{digest}")
        if response.status_code == 422:
            raise EngineRefused(digest, _detail(response))
        if response.status_code != 200:
            raise EngineUnavailable(f"the engine did not load {digest}: {_detail(response)}")

    async def remove(self, digest: str) -> None:
        """See `Engine`."""
        response = await self._call("DELETE", f"/weft/adapters/{digest}")
        if response.status_code == 409:
            raise EngineBusy(digest, _detail(response))
        if response.status_code != 200:
            raise EngineUnavailable(f"the engine did not remove {digest}: {_detail(response)}")

    async def adapters(self) -> EngineAdapters:
        """See `Engine`."""
        response = await self._call("GET", "/weft/adapters")
        if response.status_code != 200:
            raise EngineUnavailable(f"the engine's plug-in answered {_detail(response)}")
        body = response.json()
        return EngineAdapters(
            frozenset(body["known"]), frozenset(body["resident"]), dict(body["running"])
        )

    @asynccontextmanager
    async def send(self, path: str, body: bytes) -> AsyncIterator["VllmResponse"]:
        """See `Engine`."""
        endpoint = self._link.endpoint()
        request = self._http.build_request(
            "POST", endpoint.url + path, content=body,
            headers={**_RELAY_HEADERS, **_authorization(endpoint)},
        )  # fmt: skip
        try:
            response = await self._http.send(request, stream=True)
        except httpx.TransportError as error:
            raise EngineUnavailable(f"the engine does not answer: {error!r}") from error
        try:
            yield VllmResponse(response)
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _call(self, method: str, path: str) -> httpx.Response:
        endpoint = self._link.endpoint()
        try:
            return await self._http.request(
                method, endpoint.url + path, headers=_authorization(endpoint), timeout=_LOAD_SECONDS
            )
        except httpx.TransportError as error:
            raise EngineUnavailable(f"the engine does not answer: {error!r}") from error


class VllmResponse:
    """See `EngineResponse`."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._body: bytes | None = None
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield bytes as they come.

        Raises:
            EngineUnavailable: the engine closed the connection.
        """
        if self._body is not None:
            yield self._body
            return
        try:
            async for chunk in self._response.aiter_raw():
                yield chunk
        except httpx.TransportError as error:
            raise EngineUnavailable(f"the engine closed the connection: {error!r}") from error

    async def read(self) -> bytes:
        """Return the whole body. Raises EngineUnavailable: as `chunks`."""
        if self._body is None:
            self._body = b"".join([chunk async for chunk in self.chunks()])
        return self._body


def _authorization(endpoint: Endpoint) -> dict[str, str]:
    return {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.text[:300]}"
