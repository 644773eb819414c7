"""The gateway's assembly: everything passed in, nothing global, the whole surface on one page."""

import asyncio

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from registry.blobs import BlobStore
from registry.service import Registry
from server.artifacts.build import Builder
from server.artifacts.evict import Evictor
from server.artifacts.leases import Leases
from server.artifacts.provide import Provider
from server.artifacts.store import ArtifactStore
from server.auth import RequireKey
from server.compose.resolve import Resolver
from server.counting import CountRequests
from server.engine.protocol import Engine, EngineUnavailable
from server.errors import ERRORS, RequestInvalid, error_response
from server.metrics import Metrics
from server.openai.models import models_router
from server.openai.relay import Relay
from server.settings import Settings

_METRICS_SECONDS = 2.0


class Gateway:
    """The parts of one gateway, wired to each other. Starting and stopping is the caller's."""

    def __init__(
        self, settings: Settings, *, registry: Registry, versions: BlobStore, engine: Engine,
        base: str,
    ) -> None:  # fmt: skip
        self.settings, self.registry, self.engine, self.base = settings, registry, engine, base
        self.metrics = Metrics()
        self.leases = Leases()
        self.artifacts = ArtifactStore(settings.artifacts)
        self.builder = Builder(settings, registry, versions, self.artifacts, self.metrics)
        self.provider = Provider(
            registry, versions, self.artifacts, self.builder, engine, self.leases, self.metrics
        )
        self.evictor = Evictor(
            self.artifacts, engine, self.leases, self.provider, self.metrics,
            budget_bytes=settings.artifact_budget_bytes,
        )  # fmt: skip
        self.resolver = Resolver(
            registry, base, settings.base_name, settings.merge_dtype, settings.max_lora_rank
        )


def create_app(gateway: Gateway) -> FastAPI:
    """Return the HTTP surface of `gateway`."""
    keys = [key.get_secret_value() for key in gateway.settings.api_keys]
    app = FastAPI(
        title="weft",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        middleware=[
            Middleware(CountRequests, metrics=gateway.metrics),  # outermost: refusals count too
            Middleware(RequireKey, keys=keys),
        ],
    )
    relay = Relay(gateway.engine, gateway.resolver, gateway.provider, gateway.artifacts)
    for path in ("/v1/chat/completions", "/v1/completions"):
        app.router.routes.append(Route(path, relay, methods=["POST"]))
    app.include_router(
        models_router(gateway.registry, base=gateway.base, served_name=gateway.settings.base_name)
    )

    @app.get("/health")
    async def health() -> JSONResponse:
        """Say whether requests can be answered now."""
        up = gateway.engine.available()
        return JSONResponse({"status": "ok" if up else "engine down"}, 200 if up else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return the gateway's metrics for Prometheus."""
        try:
            async with asyncio.timeout(_METRICS_SECONDS):  # a hung engine must not hang the scrape
                adapters = await gateway.engine.adapters()
        except (EngineUnavailable, TimeoutError):
            adapters = None
        text = gateway.metrics.render(adapters, leases=gateway.leases.total())
        return Response(text, media_type="text/plain; version=0.0.4")

    _handle_errors(app)
    return app


def _handle_errors(app: FastAPI) -> None:
    async def domain(_: Request, error: Exception) -> Response:
        return error_response(error)

    async def invalid(_: Request, error: Exception) -> Response:
        return error_response(RequestInvalid(str(error)))

    async def http(_: Request, error: Exception) -> Response:
        """Tell what the framework refused: a path or a method that is not there."""
        assert isinstance(error, HTTPException)
        body = {"message": error.detail, "type": "invalid_request_error", "param": None,
                "code": "no_such_route"}  # fmt: skip
        return JSONResponse({"error": body}, status_code=error.status_code, headers=error.headers)

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    # Class by class: what only the handler of Exception answers, Starlette raises once more.
    for kind in (*ERRORS, Exception):
        app.add_exception_handler(kind, domain)
