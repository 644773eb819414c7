"""What all routes share: their routers, how they run, unknown query parameters, HEAD, slashes.

A router has its whole prefix, so that an app takes its routes as they are: `include_router` would
build every route once more, which is half of the time of `create_app`.
"""

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from merge.errors import did_you_mean
from server.auth import Needs
from server.bodies import MAX_JSON_VALUES, check_media_type, read_json
from server.errors import RequestInvalid
from server.pools import Pool, Pools
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


class Route(APIRoute):
    """A route that checks the role before it reads the body, and blocks only its own pool.

    A `def` endpoint runs in `pool`, which `set_pools` sets by the route's tag.
    """

    pool: Pool

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not inspect.iscoroutinefunction(endpoint):
            endpoint = self._in_pool(endpoint)
        super().__init__(path, endpoint, **options)

    def hand_over(self, app: ASGIApp) -> None:
        """Let `app` answer the requests of this route, once role and query are checked.

        The endpoint is then for the document alone: what FastAPI does around it takes as long as
        all else that happens before a chat reaches the engine.
        """
        needs = self._needs()

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            for need in needs:
                await need(request)
            await check_query(request)
            await app(scope, receive, send)

        self.app = answer

    def _needs(self) -> list[Needs]:
        calls = (dependency.call for dependency in self.dependant.dependencies)
        return [call for call in calls if isinstance(call, Needs)]

    def _in_pool(self, endpoint: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(endpoint)
        async def run(**values: Any) -> Any:
            return await self.pool.run(endpoint, **values)

        return run

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler: role, body, then what FastAPI does."""
        handle = super().get_route_handler()
        needs = self._needs()

        async def guarded(request: Request) -> Response:
            for need in needs:
                await need(request)
            if self.body_field is not None:
                request = _JsonRequest(request.scope, request.receive)
                await request.read()
            return await handle(request)

        return guarded


def hand_over(router: APIRouter, app: ASGIApp) -> None:
    """Let `app` answer the requests of all routes of `router`; see `Route.hand_over`."""
    for route in router.routes:
        assert isinstance(route, Route)
        route.hand_over(app)


def set_pools(routes: Iterable[BaseRoute], pools: Pools) -> None:
    """Give every route the pool of its tag."""
    for route in routes:
        if isinstance(route, Route):
            route.pool = pools.of_tag(str(route.tags[0]))


class _JsonRequest(Request):
    """A request whose JSON is read before FastAPI asks for it, with bounded work."""

    async def read(self) -> None:
        """Receive and parse the body.

        Raises:
            MediaTypeInvalid, RequestInvalid: the body is not JSON or has too many values.
            BodyTooLarge, BodiesBusy, BodyTimeout: as `bodies` says.
        """
        raw = await self.body()
        if raw:
            check_media_type(self.headers)
            self._json = read_json(raw, max_values=MAX_JSON_VALUES)


async def check_query(request: Request) -> None:
    """Dependency: refuse query parameters that the route does not declare.

    Raises:
        RequestInvalid: a parameter is unknown; the message names the known ones.
    """
    if not request.scope["query_string"]:
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
        route_class=Route,
    )


def openai_routes(path: str, tag: str) -> APIRouter:
    """Return an empty router for routes below `/v1` + `path`, whose errors are OpenAI's."""
    return engine_routes(f"/v1{path}", tag)


def engine_routes(path: str, tag: str) -> APIRouter:
    """Return an empty router for routes below `path`, whose errors are OpenAI's."""
    return APIRouter(
        prefix=path,
        tags=[tag],
        dependencies=[Depends(check_query)],
        route_class=Route,
    )
