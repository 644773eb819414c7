"""The admin API for the command line: a server's, or the same routes on the registry at home.

So every command is written once, and does the same to both. At home the caller is whoever is at the
command line, with the rights of one who has the files anyway.
"""

import asyncio
import json
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self
from urllib.parse import quote

import httpx
import typer
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from registry.callers import Caller
from registry.sources.upload import FILES
from server.admin.fields import MAX_PAGE
from server.admin.routes import admin_router
from server.auth import set_caller
from server.base_model import ensure_base
from server.cli.console import actor
from server.engine.absent import AbsentEngine
from server.gateway import Gateway
from server.jobs.storage import PURPOSE
from server.openai.files import PREFIX as FILES_PATH
from server.openai.files import files_router
from server.problems import PREFIX, handle_errors
from server.serve import open_registry
from server.settings import Settings
from server.sse import parse

Home = Annotated[Path | None, typer.Option(help="Folder of the registry (WEFT_HOME).")]
Server = Annotated[
    str | None,
    typer.Option(envvar="WEFT_SERVER", help="URL of a weft server; default: the local registry."),
]
Key = Annotated[
    str | None, typer.Option(envvar="WEFT_KEY", help="The server's API key.", show_envvar=True)
]
_CONNECT_SECONDS = 10.0
_CHUNK_BYTES = 2**20
_MOST_FAILURES = 5  # of a stream, one after another
_AGAIN_SECONDS = 1.0


class ServerRefused(OSError):
    """What was asked was refused, or nobody answered; the sentence is the server's."""

    def __init__(self, said: str, status: int | None = None) -> None:
        self.status = status  # None: nobody answered
        super().__init__(said)


class Client:
    """The routes below /registry. Use it in a `with` block."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def ask(
        self,
        method: str,
        *path: str | int,
        json: object = None,
        content: Iterator[bytes] | None = None,
        query: Mapping[str, str | int | list[str] | None] | None = None,
    ) -> Any:
        """Send one request and return the JSON of its answer, None when it has none.

        Raises:
            ServerRefused: with what the server said.
        """
        given = {name: value for name, value in (query or {}).items() if value is not None}
        headers = {} if content is None else {"content-type": "application/x-tar"}
        return self._send(
            method, _url(path), json=json, content=content, params=given, headers=headers
        )

    def upload(self, path: Path) -> str:
        """Send a file of examples and return its id.

        Raises:
            ServerRefused: as `ask`.
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            sent = {"file": (path.name, file)}
            made = self._send("POST", FILES_PATH, files=sent, data={"purpose": PURPOSE})
        return str(made["id"])

    def remove_upload(self, file: str) -> None:
        """Remove a file of examples. Raises ServerRefused: as `ask`."""
        self._send("DELETE", f"{FILES_PATH}/{file}")

    def _send(self, method: str, url: str, **request: Any) -> Any:
        try:
            answer = self._http.request(method, url, **request)
        except httpx.HTTPError as error:
            raise ServerRefused(f"no answer from {self._http.base_url}: {error}") from error
        if answer.is_success:
            return answer.json() if answer.content else None
        raise ServerRefused(_said(answer), answer.status_code)

    def events(self, *path: str | int) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream to its end; one that breaks off is taken up again.

        The last one's `kind` is "end". For servers only: at home an answer comes as a whole.

        Raises:
            ServerRefused: with what the server said, or when it does not answer any more.
        """
        url, seen, failures = _url(path), None, 0
        while True:
            try:
                with self._http.stream(
                    "GET", url, params={"after": seen} if seen else {}
                ) as answer:
                    if not answer.is_success:
                        answer.read()
                        raise ServerRefused(_said(answer), answer.status_code)
                    for event in parse(answer.iter_lines()):
                        document = {**json.loads(event.data), "kind": event.kind}
                        seen, failures = document.get("id", seen), 0
                        yield document
                        if event.kind == "end":
                            return
            except httpx.HTTPError as error:
                failures += 1
                if failures > _MOST_FAILURES:
                    raise ServerRefused(f"no answer from {self._http.base_url}: {error}") from error
            time.sleep(_AGAIN_SECONDS)

    def pages(
        self, *path: str | int, query: Mapping[str, str | int | None] | None = None
    ) -> Iterator[Any]:
        """Yield the items of a list, page by page."""
        asked: dict[str, str | int | None] = {**(query or {}), "limit": MAX_PAGE}
        cursor = None
        while True:
            page = self.ask("GET", *path, query={**asked, "cursor": cursor})
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return


def connect(
    home: Path | None, server: str | None, key: str | None, *, with_base: bool = False
) -> Client:
    """Return the API of a server, or of the registry at home.

    `with_base`: make sure that the served base is known at home, as expressions need it.
    """
    if server is not None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)  # merges and imports take long
        return Client(httpx.Client(base_url=server, headers=headers, timeout=timeout))
    return client_of(gateway_at_home(home, with_base=with_base))


def gateway_at_home(home: Path | None, *, with_base: bool) -> Gateway:
    """Return the parts of a gateway on the registry at home, with no engine."""
    settings = Settings() if home is None else Settings(home=home)
    registry, versions = open_registry(settings)
    base = ensure_base(registry, settings).name if with_base else settings.served_base
    return Gateway(settings, registry=registry, versions=versions, engine=AbsentEngine(), base=base)


def client_of(gateway: Gateway) -> Client:
    """Return the API of a gateway in this very process."""
    return Client(httpx.Client(base_url="http://localhost", transport=_AtHome(gateway)))


def tar_of(folder: Path) -> Iterator[bytes]:
    """Yield a plain tar of an adapter's files.

    Raises:
        OSError: one cannot be read.
    """
    for name in FILES:
        path = folder / name
        if not path.is_file():
            continue  # what is missing is for admission to tell
        head = tarfile.TarInfo(name)
        head.size = path.stat().st_size
        yield head.tobuf(tarfile.USTAR_FORMAT)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
        yield bytes(-head.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


class _AtHome(httpx.BaseTransport):
    """Carries requests to the admin routes in this very process."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._caller = Caller(actor())
        self._app = FastAPI(openapi_url=None)
        self._app.routes.extend(files_router(gateway).routes)
        self._app.routes.extend(admin_router(gateway).routes)
        handle_errors(self._app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; what it has started ends with it."""
        return asyncio.run(self._answer(request))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        try:
            answer = await httpx.ASGITransport(self._as_caller).handle_async_request(request)
            body = await answer.aread()
            return httpx.Response(answer.status_code, headers=answer.headers, content=body)
        finally:
            await self._gateway.builder.stop()

    async def _as_caller(self, scope: Scope, receive: Receive, send: Send) -> None:
        set_caller(scope, self._caller)
        await self._app(scope, receive, send)


def _url(path: Iterable[str | int]) -> str:
    return "/".join((PREFIX, *(quote(str(part), safe="/") for part in path)))


def _said(answer: httpx.Response) -> str:
    """Return the sentence of a problem document or of OpenAI's, or what there is instead."""
    try:
        body = answer.json()
        return str(body["error"]["message"] if "error" in body else body["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status_code}: {answer.text[:200]}"
