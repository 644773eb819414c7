"""The admin API, put together: one file per resource, problem documents for every error."""

from fastapi import APIRouter

from server.admin.adapters import adapters_router
from server.admin.artifacts import artifacts_router
from server.admin.bases import bases_router
from server.admin.compositions import compositions_router
from server.admin.engines import engines_router
from server.admin.explain import explain_router
from server.admin.exports import exports_router
from server.admin.garbage import garbage_router
from server.admin.imports import imports_router
from server.admin.jobs import jobs_router
from server.admin.keys import audit_router, keys_router
from server.admin.map import map_router
from server.admin.methods import methods_router
from server.admin.named import named_router
from server.admin.policies import policies_router
from server.admin.requests import requests_router
from server.admin.search import search_router
from server.admin.usage import usage_router
from server.admin.warming import warming_router
from server.admin.whoami import whoami_router
from server.gateway import Gateway


def admin_router(gateway: Gateway) -> APIRouter:
    """Return every route below /registry. Routes with more behind a name stand before its own."""
    router = APIRouter()
    for part in (
        named_router(gateway, "adapters"),
        named_router(gateway, "compositions"),
        imports_router(gateway),
        exports_router(gateway),
        adapters_router(gateway),
        warming_router(gateway),
        compositions_router(gateway),
        artifacts_router(gateway),
        bases_router(gateway),
        whoami_router(),
        keys_router(gateway),
        audit_router(gateway),
        usage_router(gateway),
        requests_router(gateway),
        engines_router(gateway),
        policies_router(gateway),
        garbage_router(gateway),
        methods_router(),
        jobs_router(gateway),
        explain_router(gateway),
        map_router(gateway.registry.search),
        search_router(gateway.registry.search.finder, gateway.pools.search),
    ):
        router.routes.extend(part.routes)
    return router
