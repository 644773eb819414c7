"""What all routes share: their routers, unknown query parameters, HEAD, trailing slashes.

A router has its whole prefix, so that an app takes its routes as they are: `include_router` would
build every route once more, which is half of the time of `create_app`.
"""

from fastapi import APIRouter, Depends, Request
from fastapi.dependencies.utils import get_flat_dependant
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from merge.errors import did_you_mean
from server.errors import RequestInvalid
from server.problems import MEDIA_TYPE, PREFIX

_PROBLEM = {
    "description": "A problem document",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


class NormalizeRequests:
    """Middleware that ignores trailing slashes and answers HEAD as GET without the body.

    A redirect to the path without the slash would lose the body of a POST in many clients.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on as the routes declare it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        if scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def head_only(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body"})

        await self._app({**scope, "method": "GET"}, receive, head_only)


async def check_query(request: Request) -> None:
    """Dependency: refuse query parameters that the route does not declare.

    Raises:
        RequestInvalid: a parameter is unknown; the message names the known ones.
    """
    if not request.query_params:
        return
    dependant = get_flat_dependant(request.scope["route"].dependant)
    known = [field.alias for field in dependant.query_params]
    for name in request.query_params:
        if name not in known:
            accepted = f"This route accepts {', '.join(known) or 'no query parameters'}."
            raise RequestInvalid(
                f"Unknown query parameter {name!r:.80}{did_you_mean(name, known)}. {accepted}", name
            )


def admin_routes(path: str, tag: str) -> APIRouter:
    """Return an empty router for routes below `/registry` + `path`, whose errors are problems."""
    return APIRouter(
        prefix=PREFIX + path,
        tags=[tag],
        responses={"4XX": _PROBLEM, "5XX": _PROBLEM},
        dependencies=[Depends(check_query)],
    )


def openai_routes(path: str, tag: str) -> APIRouter:
    """Return an empty router for routes below `/v1` + `path`, whose errors are OpenAI's."""
    return APIRouter(prefix=f"/v1{path}", tags=[tag], dependencies=[Depends(check_query)])
