"""The console: its pages over the public API of one server, and the process that serves them.

It imports nothing of the registry or of the merges: what a key may do, the API decides. It must
not be mounted in the gateway: one page view holds the event loop for tens of milliseconds.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from socket import socket

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response
from nicegui import ui
from starlette.middleware.sessions import SessionMiddleware

from server.console.api.client import Api, connection
from server.console.guard import Guard
from server.console.layout import STYLE, layout
from server.console.page import Page, PageContext
from server.console.pages import PAGES
from server.console.parts.text import plain
from server.console.sign_in import SignIn, add_sign_in, ask_to_sign_in
from server.sites import is_loopback

_TITLE_CHARACTERS = 200
# A page that was away for longer is built again: a busy machine must not lose what was typed.
_RECONNECT_SECONDS = 20.0
_ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><path d='M2 2v12M8 2v12M14 2v12"
    "M1 5h14M1 11h14' stroke='#4477aa' stroke-width='2'/></svg>"
)


def create_console(
    server: str,
    *,
    hosts: Sequence[str] = (),
    port: int = 0,
    alone: bool = True,
    pages: Sequence[Page] = PAGES,
    transport: httpx.AsyncBaseTransport | None = None,
) -> FastAPI:
    """Return the console of a server as an ASGI app; a process has one.

    Args:
        server: the URL of the gateway.
        hosts: names that it answers for beside those of this machine.
        port: where it listens: consoles on one machine share the cookies of the browser.
        alone: whether only this machine reaches it, so that a server without keys needs none.
        pages: the pages that it has.
        transport: how it reaches the gateway; by default over the network.
    """
    http = connection(server, transport)

    @asynccontextmanager
    async def closing(_: FastAPI) -> AsyncIterator[None]:
        async with http:
            yield

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=closing)
    app.add_middleware(
        SessionMiddleware, secret_key=secrets.token_urlsafe(32), max_age=None,
        session_cookie=f"weft_console_{port}", same_site="lax",
    )  # fmt: skip
    app.add_middleware(Guard, hosts=hosts)
    sign_in = SignIn(http, alone)
    add_sign_in(app, sign_in)
    for page in pages:
        _add(page, pages, sign_in)
    ui.add_css(STYLE, shared=True)
    ui.run_with(
        app, title="weft console", favicon=_ICON, dark=None, language="en-US",
        binding_refresh_interval=0.5, reconnect_timeout=_RECONNECT_SECONDS,
        show_welcome_message=False,
    )  # fmt: skip
    return app


def _add(page: Page, pages: Sequence[Page], sign_in: SignIn) -> None:
    menu = [entry for entry in pages if entry.menu]

    @ui.page(page.path)
    def show(request: Request) -> Response | None:
        session = sign_in.session_of(request)
        if session is None:
            return ask_to_sign_in(request)
        parameters = {**request.query_params, **request.path_params}
        title = plain(page.title.format_map(parameters), _TITLE_CHARACTERS)
        ui.page_title(f"{title} · weft")
        with layout(title, menu, session):
            page.build(PageContext(Api(sign_in.http, session.key), session.who, parameters))
        return None


def run_console(
    server: str,
    bound: socket,
    *,
    hosts: Sequence[str] = (),
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the console of a server on a bound socket until SIGINT or SIGTERM.

    `ready` is called with the console's address once it listens. `hosts` are names that browsers
    open it by; without any, a console that other machines reach answers for every name.
    """
    host, port = bound.getsockname()[:2]
    alone = is_loopback(host)
    app = create_console(server, hosts=hosts or (() if alone else "*"), port=port, alone=alone)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on")
    _Server(config, lambda: ready(f"http://{host}:{port}")).run(sockets=[bound])


class _Server(uvicorn.Server):
    """Calls `ready` once it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen, then call `ready`."""
        await super().startup(sockets)
        if self.started:
            self._ready()
