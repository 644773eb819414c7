"""Client of a vLLM with weft's plug-in: load, remove and list adapters, and relay requests.

All with aiohttp: httpx spends four times as much on a request and on each part of an answer, which
is most of what a gateway does, and it asks every engine twice a second how it is.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp

from server.engine.in_use import MODEL_HEADER
from server.engine.link import RESTART_SECONDS, Endpoint, Link
from server.engine.liveness import ask_core
from server.engine.protocol import (
    EngineAdapters,
    EngineBusy,
    EngineFailed,
    EngineRefused,
    EngineUnavailable,
    is_failed_load,
)
from server.sse import is_event_stream

_LOAD_TIMEOUT = aiohttp.ClientTimeout(total=120, sock_connect=5.0)
# Bytes are relayed as they come, so the engine must not compress them.
_RELAY_HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}
# Below the engine's five seconds, so that no request is sent on a connection that it closes.
_IDLE_SECONDS = 2.0
# A generation may take any time; only connecting is limited.
_RELAY_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
# How long an engine that has answered an error may take to show that its core is alive.
_EXAMINE_SECONDS = 5.0
# How vLLM's error event begins. Quotes and line breaks in an answer's text are escaped, so no text
# of a model looks like it.
_ERROR_EVENT = b'data: {"error"'


class VllmEngine:
    """The `Engine` protocol over HTTP.

    Args:
        link: where the engine is.
        idle_seconds: the longest pause between two parts of an answer; None waits for ever.
    """

    def __init__(self, link: Link, *, idle_seconds: float | None = None) -> None:
        self._link, self._idle_seconds = link, idle_seconds
        self._http: aiohttp.ClientSession | None = None

    @property
    def name(self) -> str:
        """See `Engine`."""
        return self._link.name

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
        answer = await self._call("POST", f"/weft/adapters/{digest}")
        if answer.status == 422:
            raise EngineRefused(digest, answer.detail())
        if answer.status != 200:
            raise EngineUnavailable(f"the engine did not load {digest}: {answer.detail()}")

    async def remove(self, digest: str) -> None:
        """See `Engine`."""
        answer = await self._call("DELETE", f"/weft/adapters/{digest}")
        if answer.status == 409:
            raise EngineBusy(digest, answer.detail())
        if answer.status != 200:
            raise EngineUnavailable(f"the engine did not remove {digest}: {answer.detail()}")

    async def adapters(self) -> EngineAdapters:
        """See `Engine`."""
        answer = await self._call("GET", "/weft/adapters")
        if answer.status != 200:
            raise EngineUnavailable(f"the engine's plug-in answered {answer.detail()}")
        body = json.loads(answer.body)
        return EngineAdapters(
            frozenset(body["known"]), frozenset(body["resident"]), dict(body["running"])
        )

    @asynccontextmanager
    async def send(self, path: str, body: bytes, *, model: str) -> AsyncIterator["VllmResponse"]:
        """See `Engine`."""
        endpoint = self._link.endpoint()
        async with self._link.outage.ends():
            response = await self._post(endpoint, path, body, model)
            try:
                answer = VllmResponse(response, self, endpoint, self._idle_seconds)
                if answer.status >= 500 or await is_failed_load(answer):
                    await self._examine(endpoint, answer)
                yield answer
            finally:
                response.release()  # closes the connection of an answer not read to its end

    async def _post(
        self, endpoint: Endpoint, path: str, body: bytes, model: str
    ) -> aiohttp.ClientResponse:
        try:
            return await self._session().post(
                endpoint.url + path, data=body, allow_redirects=False,
                headers=_RELAY_HEADERS | endpoint.headers | {MODEL_HEADER: model},
            )  # fmt: skip
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineUnavailable(f"the engine does not answer: {error!r}") from error

    async def require_core(self, endpoint: Endpoint, event: str) -> None:
        """Raise EngineUnavailable unless the engine that `event` came from still serves."""
        problem = await ask_core(self._session(), endpoint, _EXAMINE_SECONDS)
        if problem is not None:
            raise EngineUnavailable(f"the engine {event}, and {problem.reason}", RESTART_SECONDS)
        if self._link.endpoint() != endpoint:
            raise EngineUnavailable(f"the engine {event} and was restarted", RESTART_SECONDS)

    async def _examine(self, endpoint: Endpoint, answer: "VllmResponse") -> None:
        """Tell an engine that is lost, and a body that is no error object, from an engine's error.

        What vLLM answers while it goes down differs by where the request is, so the engine is asked
        rather than its message read.
        """
        body = await answer.read()
        await self.require_core(endpoint, f"answered {answer.status}")
        if not _is_error_object(body):
            raise EngineFailed(answer.status, body.decode(errors="replace"))

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()

    async def _call(self, method: str, path: str) -> "_Answer":
        endpoint = self._link.endpoint()
        try:
            async with (
                self._link.outage.ends(),
                self._session().request(
                    method, endpoint.url + path, headers=_RELAY_HEADERS | endpoint.headers,
                    timeout=_LOAD_TIMEOUT, allow_redirects=False,
                ) as response,
            ):  # fmt: skip
                return _Answer(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineUnavailable(f"the engine does not answer: {error!r}") from error

    def _session(self) -> aiohttp.ClientSession:
        """Return the connections, which are made where a loop runs. No proxy of the environment
        sees them."""
        if self._http is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS)
            self._http = aiohttp.ClientSession(
                connector=connector, timeout=_RELAY_TIMEOUT, auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )  # fmt: skip
        return self._http


class _Answer(NamedTuple):
    """An answer of the plug-in."""

    status: int
    body: bytes

    def detail(self) -> str:
        """Return what the plug-in says, or else the status and the beginning of the body."""
        try:
            return str(json.loads(self.body)["detail"])
        except (ValueError, KeyError, TypeError):
            return f"{self.status} {self.body[:300].decode(errors='replace')}"


class VllmResponse:
    """See `EngineResponse`."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        engine: VllmEngine,
        endpoint: Endpoint,
        idle_seconds: float | None,
    ) -> None:
        self._response, self._engine, self._endpoint = response, engine, endpoint
        self._idle_seconds = idle_seconds
        self._first = b""
        self._body: bytes | None = None
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._events = is_event_stream(self.headers.get("content-type", ""))

    async def begin(self) -> None:
        """Wait for the first part of a stream, or the whole body. Raises: as `chunks`."""
        if not self._events:
            await self.read()
        elif not self._first:
            async for chunk in self._parts():
                self._first = chunk
                return

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield bytes as they come.

        Raises:
            EngineUnavailable: the engine closed the connection, sent nothing for too long, or sent
                an error event because it is lost.
        """
        if self._body is not None:
            yield self._body
            return
        if self._first:
            yield self._first
        async for chunk in self._parts():
            yield chunk

    async def _parts(self) -> AsyncIterator[bytes]:
        content, silence = self._response.content, _Silence(self._response, self._idle_seconds)
        try:
            while chunk := await content.readany():
                silence.broken()
                if self._events and (at := chunk.find(_ERROR_EVENT)) >= 0:
                    if at > 0:
                        yield chunk[:at]
                    await self._engine.require_core(self._endpoint, "sent an error")
                    chunk = chunk[at:]
                yield chunk
                silence.begins()
        except TimeoutError as error:
            reason = f"the engine sent nothing for {self._idle_seconds:g} s"
            raise EngineUnavailable(reason, RESTART_SECONDS) from error
        except (aiohttp.ClientError, OSError) as error:
            reason = f"the engine closed the connection: {error!r}"
            raise EngineUnavailable(reason, RESTART_SECONDS) from error
        finally:
            silence.end()

    async def read(self) -> bytes:
        """Return the whole body. Raises EngineUnavailable: as `chunks`."""
        if self._body is None:
            self._body = b"".join([chunk async for chunk in self.chunks()])
        return self._body


class _Silence:
    """Ends an answer of which nothing more comes, by a TimeoutError where it is read.

    One timer for the whole answer: a timeout for each part of it costs as much as relaying it.
    """

    def __init__(self, response: aiohttp.ClientResponse, seconds: float | None) -> None:
        self._content, self._seconds = response.content, seconds
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begins(self) -> None:
        """Note that a further part is waited for: from here on the engine is slow, not a client."""
        self._since = self._loop.time()
        if self._timer is None and self._seconds is not None:
            self._timer = self._loop.call_later(self._seconds, self._look, self._seconds)

    def broken(self) -> None:
        """Note that a part has come."""
        self._since = None

    def end(self) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, limit: float) -> None:
        now = self._loop.time()
        left = limit if self._since is None else self._since + limit - now
        if left > 0:
            self._timer = self._loop.call_later(left, self._look, limit)
        else:
            self._content.set_exception(TimeoutError())


def _is_error_object(body: bytes) -> bool:
    try:
        answer = json.loads(body)
    except ValueError:
        return False
    return isinstance(answer, dict) and isinstance(answer.get("error"), dict)
