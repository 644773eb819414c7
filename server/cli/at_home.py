"""The admin API on the registry at home: the server's own routes, in this process.

Every command is written once and does the same at home and on a server. The caller is the user at
the command line, with all rights: they follow from access to the files.
"""

import asyncio
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile

import httpx
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from registry.callers import Caller
from server.admin.routes import admin_router
from server.auth import set_caller
from server.base_model import ensure_base
from server.cli.client import Client, ServerRefused
from server.cli.console import actor
from server.errors import info_of
from server.gateway import Gateway
from server.home import open_registry
from server.openai.files import files_router
from server.routing import set_pools
from server.served_bases import ServedBase, ServedBases
from server.settings import Settings

_NO_ENGINE = "this command runs without an engine; add --server URL to run it against a server"
_BODY_IN_MEMORY_BYTES = 2**23
_CHUNK_BYTES = 2**20


def gateway_at_home(settings: Settings, *, with_base: bool) -> Gateway:
    """Return the parts of a gateway on the registry at home, without an engine.

    `with_base`: register the served bases first, as expressions need them.
    """
    registry, versions = open_registry(settings)
    bases = ServedBases(
        ServedBase(ensure_base(registry, own).name if with_base else own.served_base, own)
        for own in settings.of_bases()
    ).without_engines(_NO_ENGINE)
    return Gateway(settings, registry=registry, versions=versions, bases=bases)


def client_of(gateway: Gateway) -> Client:
    """Return the API of a gateway in this process."""
    return Client(httpx.Client(base_url="http://localhost", transport=_AtHome(gateway)))


class _Body(httpx.SyncByteStream):
    """The body of an answer: in memory while it is small, then in a temporary file."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile[bytes](_BODY_IN_MEMORY_BYTES)

    def keep_from(self, send: Send) -> Send:
        """Return a `send` that keeps the body's bytes here and passes the rest on."""

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.body":
                self._file.write(message.get("body", b""))
                message = {**message, "body": b""}
            await send(message)

        return keep

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            yield chunk

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()


class _AtHome(httpx.BaseTransport):
    """Carries requests to the admin routes in this process."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._caller = Caller(actor())
        self._app = FastAPI(openapi_url=None)
        self._app.routes.extend(files_router(gateway).routes)
        self._app.routes.extend(admin_router(gateway).routes)
        set_pools(self._app.routes, gateway.pools)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; what it started ends with it."""
        return asyncio.run(self._answer(request))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        body = _Body()

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await self._as_caller(scope, receive, body.keep_from(send))

        try:
            # httpx keeps whole bodies in memory, so it sees none.
            head = await httpx.ASGITransport(answer).handle_async_request(request)
            return httpx.Response(head.status_code, headers=head.headers, stream=body)
        except Exception as error:
            status = info_of(error).status
            if status == 500:  # a defect; its traceback helps
                raise
            raise ServerRefused(str(error), status) from error
        finally:
            await self._gateway.builder.stop()
            await self._gateway.previews.stop()

    async def _as_caller(self, scope: Scope, receive: Receive, send: Send) -> None:
        set_caller(scope, self._caller)
        await self._app(scope, receive, send)
