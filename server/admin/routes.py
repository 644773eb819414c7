"""The admin API, put together: one file per resource, problem documents for every error."""

from fastapi import APIRouter

from server.admin.adapters import adapters_router
from server.admin.artifacts import artifacts_router
from server.admin.bases import bases_router
from server.admin.compositions import compositions_router
from server.admin.garbage import garbage_router
from server.admin.imports import imports_router
from server.admin.jobs import jobs_router
from server.admin.keys import audit_router, keys_router
from server.admin.named import named_router
from server.admin.search import search_router
from server.gateway import Gateway
from server.problems import MEDIA_TYPE, PREFIX

_PROBLEM = {
    "description": "A problem document",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def admin_router(gateway: Gateway) -> APIRouter:
    """Return every route below /registry. Routes with more behind a name stand before its own."""
    router = APIRouter(prefix=PREFIX, responses={"4XX": _PROBLEM, "5XX": _PROBLEM})
    router.include_router(named_router(gateway, "adapters"))
    router.include_router(named_router(gateway, "compositions"))
    router.include_router(imports_router(gateway))
    for make in (
        adapters_router, compositions_router, artifacts_router, bases_router, keys_router,
        audit_router, garbage_router, jobs_router,
    ):  # fmt: skip
        router.include_router(make(gateway))
    router.include_router(search_router(gateway.registry.search.finder))
    return router
