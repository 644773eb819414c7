"""Imports: an upload as a tar stream, or a folder below an allowed root.

Not covered: the Hub. The server's token would open its private repositories to every publisher, so
the command line on the server itself imports from there.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect

from registry.callers import Caller
from registry.references import Reference
from registry.sources.errors import UploadInvalid
from registry.sources.upload import import_tar
from registry.types import Registration
from server.admin.bodies import ImportBody
from server.admin.fields import AskedAlias, AskedBase, AskedOrigin, Name
from server.admin.rules import check_alias_move, check_import_root
from server.admin.schemas import FindingItem, RegisteredItem, SimilarItem, VersionItem
from server.auth import Owner, Publisher
from server.gateway import Gateway
from server.routing import admin_routes

# The sender decides how long an upload takes. Uploads have their own threads, so that they do not
# block other requests.
_UPLOADS_AT_ONCE = 8
_SILENCE_SECONDS = 60.0
_TAR = {
    "required": True,
    "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
}


def imports_router(gateway: Gateway) -> APIRouter:
    """Return the routes that create versions of adapters."""
    router = admin_routes("", "adapters")
    registry, settings = gateway.registry, gateway.settings
    uploads = ThreadPoolExecutor(_UPLOADS_AT_ONCE, thread_name_prefix="weft-upload")

    @router.post(
        "/adapters/{name:path}/-/versions", status_code=201, openapi_extra={"requestBody": _TAR}
    )
    async def upload_version(
        name: Name, request: Request, caller: Owner, base: AskedBase = None,
        alias: AskedAlias = None, origin: AskedOrigin = None,
    ) -> RegisteredItem:  # fmt: skip
        """Import an adapter from the body: an uncompressed tar of its PEFT folder."""
        check_alias_move(caller, alias, settings.protected_aliases)
        loop = asyncio.get_running_loop()
        chunks = _Received(request.stream(), loop)

        def run() -> RegisteredItem:
            made = import_tar(
                registry, chunks, name=name, limit_bytes=settings.import_max_bytes, base=base,
                alias=alias, origin=origin, actor=caller.name,
            )  # fmt: skip
            return registered(gateway, made, caller)

        return await loop.run_in_executor(uploads, run)

    @router.post("/imports", status_code=201)
    def import_folder(body: ImportBody, caller: Publisher) -> RegisteredItem:
        """Import an adapter from a folder on the server."""
        caller.need_name(body.name)
        check_alias_move(caller, body.alias, settings.protected_aliases)
        folder = check_import_root(body.folder, settings.import_roots)
        made = registry.adapters.register(
            folder, name=body.name, base=body.base, alias=body.alias,
            source=f"folder:{folder}", actor=caller.name,
        )  # fmt: skip
        return registered(gateway, made, caller)

    return router


def registered(gateway: Gateway, made: Registration, caller: Caller) -> RegisteredItem:
    """Return the result of an import; `similar` has only what the caller can see."""
    reference = Reference(name=made.version.name, version=made.version.number)
    similar = gateway.registry.search.finder.similar(reference, caller)
    return RegisteredItem(
        version=VersionItem.model_validate(made.version),
        created=made.created,
        findings=[FindingItem(**found) for found in made.report.to_json()["findings"]],
        similar=[SimilarItem.model_validate(found) for found in similar],
    )


class _Received(Iterator[bytes]):
    """A request's body for a thread: each chunk is fetched from the event loop on demand."""

    def __init__(self, stream: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._stream, self._loop = stream, loop

    def __next__(self) -> bytes:
        waiting = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
        try:
            chunk = waiting.result(_SILENCE_SECONDS)
        except TimeoutError as error:
            waiting.cancel()
            raise UploadInvalid(f"no data arrived for {_SILENCE_SECONDS:g} s") from error
        except ClientDisconnect as error:
            raise UploadInvalid("it was interrupted") from error
        if chunk is None:
            raise StopIteration
        return chunk

    async def _next(self) -> bytes | None:
        return await anext(self._stream, None)
