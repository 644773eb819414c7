"""The gateway's surface: everything passed in, nothing global, all of it on one page."""

import asyncio

from fastapi import FastAPI, Response
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from server.admin.openapi import openapi_router
from server.admin.routes import admin_router
from server.auth import OPEN_PATHS, Guarded, Keyring, Reader, RequireKey, role_of
from server.engine.protocol import EngineUnavailable
from server.gateway import Gateway
from server.metrics import CountRequests
from server.openai.files import files_router
from server.openai.fine_tuning import fine_tuning_router
from server.openai.models import models_router
from server.openai.relay import Relay
from server.problems import handle_errors

_METRICS_SECONDS = 2.0


def create_app(gateway: Gateway) -> FastAPI:
    """Return the HTTP surface of `gateway`."""
    keys = [key.get_secret_value() for key in gateway.settings.api_keys]
    keyring = Keyring(keys, gateway.registry.access.keys)
    app = FastAPI(
        title="weft",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url=None,  # it wants a key here: see openapi_router
        middleware=[
            Middleware(CountRequests, metrics=gateway.metrics),  # outermost: refusals count too
            Middleware(RequireKey, keyring=keyring),
        ],
    )
    relay = Relay(gateway.engine, gateway.resolver, gateway.provider, gateway.artifacts)
    for path in ("/v1/chat/completions", "/v1/completions"):
        app.router.routes.append(Route(path, Guarded(relay, "chat"), methods=["POST"]))
    for router in (
        models_router(gateway.registry, base=gateway.base, served_name=gateway.settings.base_name),
        files_router(gateway),
        fine_tuning_router(gateway),
        admin_router(gateway),
        openapi_router(app),
    ):
        app.routes.extend(router.routes)

    @app.get("/health")
    async def health() -> JSONResponse:
        """Say whether requests can be answered now."""
        up = gateway.engine.available()
        return JSONResponse({"status": "ok" if up else "engine down"}, 200 if up else 503)

    @app.get("/metrics")
    async def metrics(_: Reader) -> Response:
        """Return the gateway's metrics for Prometheus."""
        try:
            async with asyncio.timeout(_METRICS_SECONDS):  # a hung engine must not hang the scrape
                adapters = await gateway.engine.adapters()
        except (EngineUnavailable, TimeoutError):
            adapters = None
        text = gateway.metrics.render(adapters, leases=gateway.leases.total())
        return Response(text, media_type="text/plain; version=0.0.4")

    handle_errors(app)
    for route in app.routes:
        assert role_of(route) or getattr(route, "path", None) in OPEN_PATHS, route
    return app
