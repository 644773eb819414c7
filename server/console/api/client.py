"""One client of the public API for all pages: typed answers, and `Refused` for everything else.

All sessions share one pool of connections; each request carries the key of its session. Covered:
limits of time, errors, lists page by page, streams. Not covered: what routes there are (the other
files of this folder).
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from server.console.api.errors import Refused

CONNECT_SECONDS = 2.5  # a dead server is told within 3 s
READ_SECONDS = 30.0  # a slow one is told by the page after 2.5 s, while the request goes on
_CONNECTIONS = 100
Query: TypeAlias = Mapping[str, str | int | float | bool | list[str] | None]
T = TypeVar("T", bound=BaseModel)


class PageOf(BaseModel, Generic[T]):
    """A page of a list; `next_cursor` is None on the last."""

    items: list[T]
    next_cursor: str | None = None


def connection(server: str, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """Return the pool of connections to a server. Close it at the end."""
    return httpx.AsyncClient(
        base_url=server,
        transport=transport,
        trust_env=False,  # a proxy of the environment would see the keys
        limits=httpx.Limits(max_connections=_CONNECTIONS),
    )


class Api:
    """The public API, called with one key; None calls it without."""

    def __init__(self, http: httpx.AsyncClient, key: str | None) -> None:
        self._http = http
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}

    @property
    def server(self) -> str:
        """The URL of the server."""
        return str(self._http.base_url).rstrip("/")

    async def get(
        self, kind: type[T], *path: str | int, query: Query | None = None,
        seconds: float = READ_SECONDS,
    ) -> T:  # fmt: skip
        """Return the answer to a GET below `/registry`.

        Raises:
            Refused: with the API's words.
        """
        return await self.send(kind, "GET", *path, query=query, seconds=seconds)

    async def send(
        self, kind: type[T], method: str, *path: str | int, query: Query | None = None,
        json: object = None, content: bytes | None = None, seconds: float = READ_SECONDS,
    ) -> T:  # fmt: skip
        """Return the answer to any request below `/registry`.

        Raises:
            Refused: with the API's words.
        """
        answer = await self._answer(method, path, query, json, content, seconds)
        return _read(kind, answer)

    async def do(
        self, method: str, *path: str | int, query: Query | None = None, json: object = None,
        seconds: float = READ_SECONDS,
    ) -> None:  # fmt: skip
        """Send a request below `/registry` whose answer does not matter.

        Raises:
            Refused: with the API's words.
        """
        await self._answer(method, path, query, json, None, seconds)

    async def page(
        self, kind: type[T], *path: str | int, cursor: str | None = None, limit: int = 20,
        query: Query | None = None,
    ) -> PageOf[T]:  # fmt: skip
        """Return one page of a list below `/registry`.

        Raises:
            Refused: with the API's words.
        """
        asked = {**(query or {}), "cursor": cursor, "limit": limit}
        return await self.get(PageOf[kind], *path, query=asked)  # type: ignore[valid-type]

    async def raw(
        self, method: str, url: str, *, seconds: float = READ_SECONDS, **request: Any
    ) -> httpx.Response:
        """Return the answer to a request outside of `/registry`, such as `/v1/files`.

        Raises:
            Refused: with the API's words.
        """
        try:
            answer = await self._http.request(
                method, url, headers=self._headers, timeout=_timeout(seconds), **request
            )
        except httpx.HTTPError as error:
            raise Refused.by_silence(self._http.base_url, error) from error
        if not answer.is_success:
            raise Refused.by_answer(answer)
        return answer

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, *, seconds: float = READ_SECONDS, **request: Any
    ) -> AsyncIterator[httpx.Response]:
        """Give the answer to a request whose body is read as it comes, such as a chat's.

        Raises:
            Refused: with the API's words, or when the answer stops in the middle.
        """
        try:
            async with self._http.stream(
                method, url, headers=self._headers, timeout=_timeout(seconds), **request
            ) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise Refused.by_answer(answer)
                yield answer
        except httpx.HTTPError as error:
            raise Refused.by_silence(self._http.base_url, error) from error

    async def _answer(
        self, method: str, path: tuple[str | int, ...], query: Query | None, json: object,
        content: bytes | None, seconds: float,
    ) -> httpx.Response:  # fmt: skip
        url = "/".join(("/registry", *(quote(str(part), safe="/") for part in path)))
        params = {name: value for name, value in (query or {}).items() if value is not None}
        return await self.raw(
            method, url, params=params, json=json, content=content, seconds=seconds
        )


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=CONNECT_SECONDS)


def _read(kind: type[T], answer: httpx.Response) -> T:
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise Refused(
            f"The server's answer is not what this console knows ({error.errors()[0]['msg']}): "
            "run a console of the server's version.",
            status=answer.status_code,
        ) from error
