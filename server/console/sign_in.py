"""Signing in and out: a key is typed once, tried against the server, and kept in memory.

The form is posted rather than synchronised, so that the key is in no element of a page, and the
token of the session changes with every sign-in. Opening the page ends the session of before. A
server without keys is entered without one, where the console is reached from this machine alone.
"""

from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlencode

import httpx
from fastapi import FastAPI, Form, Request
from fastapi.responses import RedirectResponse, Response
from nicegui import ui

from server.console.api.client import Api
from server.console.api.errors import UNAUTHORIZED, Refused
from server.console.api.identity import whoami
from server.console.layout import PRIMARY
from server.console.parts.text import tagged
from server.console.sessions import Session, Sessions, Throttle

_TOKEN, _TOLD = "token", "told"  # in the cookie
_LONGEST_KEY, _TOLD_CHARACTERS = 500, 1000
_SEE_OTHER = 303


@dataclass(frozen=True, slots=True)
class SignIn:
    """Who is signed in to a server, and whether that takes a key.

    `alone`: only this machine reaches the console.
    """

    http: httpx.AsyncClient
    alone: bool
    sessions: Sessions = field(default_factory=Sessions)
    throttle: Throttle = field(default_factory=Throttle)

    def session_of(self, request: Request) -> Session | None:
        """Return the session of a browser that is signed in."""
        return self.sessions.find(request.session.get(_TOKEN))

    async def enter(self, request: Request, key: str | None) -> None:
        """Start a session with this key, in place of the browser's last one.

        Raises:
            Refused: the server does not know the key, or does not answer.
        """
        who = await whoami(Api(self.http, key))
        self.leave(request)
        request.session[_TOKEN] = self.sessions.start(key, who)

    def leave(self, request: Request) -> None:
        """End the session of a browser."""
        self.sessions.end(request.session.pop(_TOKEN, None))


def ask_to_sign_in(request: Request) -> Response:
    """Return the answer that leads to the sign-in, and from there back to this page."""
    page = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/sign-in?{urlencode({'then': page})}", _SEE_OTHER)


def add_sign_in(app: FastAPI, sign_in: SignIn) -> None:
    """Add the page of the sign-in and the route that its form is posted to."""

    @ui.page("/sign-in", title="Sign in · weft", response_timeout=10)
    async def show(request: Request, then: str = "/") -> Response | None:
        sign_in.leave(request)
        told = request.session.pop(_TOLD, None)
        if sign_in.alone and told is None:
            try:
                await sign_in.enter(request, None)
                return RedirectResponse(_own_page(then), _SEE_OTHER)
            except Refused as error:
                told = None if error.status == UNAUTHORIZED else str(error)[:_TOLD_CHARACTERS]
        _draw_form(then, told)
        return None

    @app.post("/sign-in")
    async def post(
        request: Request, key: Annotated[str, Form()] = "", then: Annotated[str, Form()] = "/"
    ) -> Response:
        told = await _try(sign_in, request, key.strip())
        if told is None:
            return RedirectResponse(_own_page(then), _SEE_OTHER)
        request.session[_TOLD] = told
        return RedirectResponse(f"/sign-in?{urlencode({'then': _own_page(then)})}", _SEE_OTHER)


async def _try(sign_in: SignIn, request: Request, key: str) -> str | None:
    """Sign in with a key; return why it did not work."""
    address = request.client.host if request.client else ""
    wait = sign_in.throttle.try_from(address)
    if wait:
        return f"Too many keys were tried from {address}. Try again in {wait:.0f} seconds."
    if not key or not key.isascii() or len(key) > _LONGEST_KEY:
        return "This is no API key. `weft keys create NAME` makes one."
    try:
        await sign_in.enter(request, key)
    except Refused as error:
        return str(error)[:_TOLD_CHARACTERS]
    sign_in.throttle.passed(address)
    return None


def _own_page(path: str) -> str:
    """Return the path if it is one of this console, else that of the first page."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"


def _draw_form(then: str, told: str | None) -> None:
    ui.dark_mode(None)
    ui.colors(primary=PRIMARY)
    with ui.element("main").classes("w-full max-w-sm mx-auto p-4 flex flex-col gap-3"):
        tagged("h1", "weft console").classes("text-xl font-bold")
        if told is not None:
            with ui.element("div").classes("weft-refusal").props("role=alert"):
                tagged("pre", told, 1000)
        with ui.element("form").classes("weft-form flex flex-col gap-3") as form:
            form.props("method=post action=/sign-in")
            tagged("label", "API key").props("for=key")
            ui.element("input").props(
                "id=key name=key type=password autocomplete=current-password required autofocus"
            )
            ui.element("input").props("type=hidden name=then").props["value"] = then
            ui.button("Sign in").props("type=submit no-caps")
        tagged("p", "The key stays in the memory of the console's process.").classes("text-sm")
