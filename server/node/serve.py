"""The HTTP side of a node: the engine's plug-in asks it for adapters that its folder lacks."""

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response

from registry.errors import DigestInvalid
from registry.storage.blobs import LocalBlobs
from registry.storage.errors import BlobCorrupt, BlobMissing, StoreUnavailable
from server.artifacts.store import StoreBroken, StoreFull
from server.engine.client import VllmEngine
from server.engine.link import Endpoint, Fixed
from server.node.cache import NodeCache
from server.settings import Settings
from server.stores import buckets_of

_SHRINK_SECONDS = 10.0
# A crash left the workspaces that are older than any download can last.
_SWEEP_SECONDS = 3600.0
_STATUS: Mapping[type[Exception], int] = {
    DigestInvalid: 400, BlobMissing: 404, BlobCorrupt: 422, StoreUnavailable: 503,
    StoreFull: 507, StoreBroken: 503,
}  # fmt: skip
_log = logging.getLogger("weft.node")


class NodeUnusable(Exception):
    """The settings of a node do not go together; the message says what to set."""


def node_app(cache: NodeCache, key: str | None) -> FastAPI:
    """Return the ASGI app of a node.

    Args:
        cache: the adapters of this machine.
        key: the engine's; None where the engine has none.
    """

    @asynccontextmanager
    async def tending(_app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(_keep_small(cache), name="node budget")
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app = FastAPI(openapi_url=None, lifespan=tending)

    @app.get("/health")
    async def health() -> Response:
        """Answer that the process lives."""
        return Response()

    @app.put("/artifacts/{digest}")
    async def fetch(digest: str, request: Request) -> Response:
        """Bring an adapter into the folder."""
        given = request.headers.get("authorization", "").encode()
        if key is not None and not hmac.compare_digest(given, f"Bearer {key}".encode()):
            raise HTTPException(401, "the engine's key is wrong or missing")
        try:
            await cache.fetch(digest)
        except tuple(_STATUS) as error:
            raise HTTPException(_STATUS[type(error)], str(error)) from error
        return Response()

    return app


async def serve_node(settings: Settings, port: int) -> None:
    """Serve the node of this machine on 127.0.0.1 until the process receives a signal.

    Args:
        settings: name the store, the folder and its budget, and the engine.
        port: where to listen.

    Raises:
        NodeUnusable: there is no store, or not one engine.
        registry.errors.RegistryError: the store cannot be opened.
    """
    buckets = buckets_of(settings)
    if not buckets:
        raise NodeUnusable("a node brings adapters from an object store: set WEFT_STORE")
    if len(settings.engine_url) != 1:
        raise NodeUnusable("a node serves one engine: set WEFT_ENGINE_URL to its URL")
    key = settings.engine_key.get_secret_value() if settings.engine_key else None
    folder = LocalBlobs(settings.artifacts)
    folder.sweep(older_than_seconds=_SWEEP_SECONDS)
    engine = VllmEngine(Fixed(Endpoint(settings.engine_url[0], key)))
    cache = NodeCache(folder, buckets, engine, budget_bytes=settings.artifact_budget_bytes)
    config = uvicorn.Config(
        node_app(cache, key), host="127.0.0.1", port=port, log_config=None, access_log=False
    )
    _log.info(
        "bringing adapters from %s to %s, for WEFT_NODE_URL=http://127.0.0.1:%d",
        settings.store, settings.artifacts, port,
    )  # fmt: skip
    try:
        await uvicorn.Server(config).serve()
    finally:
        await engine.close()


async def _keep_small(cache: NodeCache) -> None:
    while True:
        await asyncio.sleep(_SHRINK_SECONDS)
        try:
            await cache.shrink()
        except Exception:  # the next round must still run
            _log.exception("the folder of adapters was not reduced to its budget")
