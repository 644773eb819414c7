"""`GET /openapi.json`: the routes as a document, for those who may read the registry."""

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from server.admin.schemas import Problem
from server.auth import Reader


def openapi_router(app: FastAPI) -> APIRouter:
    """Return the route that describes all routes of `app`."""
    router = APIRouter(include_in_schema=False)
    made: list[dict[str, Any]] = []

    @router.get("/openapi.json")
    def openapi(_: Reader) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if not made:
            made.append(describe(app))
        return made[0]

    return router


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of an app: FastAPI's, with the key and the problems."""
    document = get_openapi(title=app.title, version="1", routes=app.routes)
    parts = document.setdefault("components", {})
    parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    return document
