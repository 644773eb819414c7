"""`GET /openapi.json`: the routes as a document; `GET /docs`: a page that shows it."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import FileResponse

from server.admin.schemas import Problem
from server.auth import Reader
from server.routing import Route

_PAGE = Path(__file__).with_name("docs.html")
# The page is one file: whatever it shows, a browser loads nothing from another server for it.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'"
}


def openapi_router(app: FastAPI) -> APIRouter:
    """Return the routes that describe all routes of `app`."""
    router = APIRouter(include_in_schema=False, tags=["operations"], route_class=Route)
    made: list[dict[str, Any]] = []

    @router.get("/openapi.json")
    def openapi(_: Reader) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if not made:
            made.append(describe(app))
        return made[0]

    @router.get("/docs")
    def docs() -> FileResponse:
        """Return a page that shows the OpenAPI document."""
        return FileResponse(_PAGE, media_type="text/html", headers=_PAGE_HEADERS)

    return router


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of an app: FastAPI's, with the key and the problems."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    parts = document.setdefault("components", {})
    parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    return document
