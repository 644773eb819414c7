"""The FastAPI app of a gateway: its middleware and all of its routes."""

from importlib.metadata import version

from fastapi import FastAPI, Response
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from server.admin.openapi import openapi_router
from server.admin.routes import admin_router
from server.auth import OPEN_PATHS, Chatter, Keyring, Reader, RequireKey, role_of
from server.bodies import LimitBodies
from server.few_at_once import FewAtOnce
from server.gateway import Gateway
from server.live import live_of
from server.lorax.routes import lorax_router
from server.openai.completions import completions_router, relay_of
from server.openai.files import files_router
from server.openai.fine_tuning import fine_tuning_router
from server.openai.models import models_router
from server.problems import handle_errors
from server.readiness import Readiness
from server.routing import NormalizeRequests, set_pools
from server.sites import AllowOrigins
from server.telemetry.access import LogRequests
from server.telemetry.metrics import CountRequests


def create_app(gateway: Gateway) -> FastAPI:
    """Return the FastAPI app of `gateway`."""
    keys = [key.get_secret_value() for key in gateway.settings.api_keys]
    keyring = Keyring(keys, gateway.registry.access.keys, gateway.pools.auth)
    readiness, relay = Readiness(gateway), relay_of(gateway)
    hosts, origins = gateway.settings.allowed_hosts, gateway.settings.cors_origins
    app = FastAPI(
        title="weft",
        version=version("weft"),
        openapi_url=None,  # FastAPI's own would need no key, and its /docs loads a CDN's scripts
        redirect_slashes=False,
        middleware=[
            Middleware(LogRequests),  # outside of all: refusals are logged too
            Middleware(NormalizeRequests),
            Middleware(AllowOrigins, origins=origins),  # before keys: a preflight has none
            # Before keys: refusals count, too.
            Middleware(CountRequests, metrics=gateway.metrics, recent=gateway.recent_requests),
            Middleware(RequireKey, keyring=keyring, allowed_hosts=hosts, cors_origins=origins),
            Middleware(FewAtOnce),
            Middleware(LimitBodies, settings=gateway.settings, budget=gateway.bodies),
        ],
    )
    for router in (
        completions_router(relay),
        lorax_router(relay, base=gateway.bases.default.served_name),
        models_router(gateway),
        files_router(gateway),
        fine_tuning_router(gateway),
        admin_router(gateway),
        openapi_router(app),
    ):
        app.routes.extend(router.routes)

    @app.get("/health", tags=["operations"])
    async def health() -> dict[str, str]:
        """Report that the gateway runs: 200. Whether it can answer requests is /ready."""
        return {"status": "ok"}

    @app.get("/ready", tags=["operations"])
    @app.get("/ping", tags=["operations"])
    @app.post("/ping", tags=["operations"])
    async def ready() -> JSONResponse:
        """Report whether requests can be answered: 200, or 503 and which part cannot.

        The engine has to answer through its core, the database and the disk have to work. /ping is
        what SageMaker asks, with the same meaning.
        """
        problems = await readiness.problems()
        if problems:
            return JSONResponse({"status": "not ready", "problems": dict(problems)}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/version", tags=["operations"])
    async def get_version(_: Chatter) -> dict[str, str]:
        """Return the version of weft."""
        return {"version": app.version}

    @app.get("/metrics", tags=["operations"])
    async def metrics(_: Reader) -> Response:
        """Return the metrics of the gateway in Prometheus' text format."""
        text = gateway.metrics.render(await live_of(gateway))
        return Response(text, media_type="text/plain; version=0.0.4")

    handle_errors(app)
    set_pools(app.routes, gateway.pools)
    for route in app.routes:
        assert role_of(route) or getattr(route, "path", None) in OPEN_PATHS, route
    return app
