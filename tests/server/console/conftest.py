"""A console over a real gateway with the fake engine, and users of it without a browser.

NiceGUI has one application per process, which is emptied before and after each test.
"""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from httpx import (
    ASGITransport,
    AsyncBaseTransport,
    AsyncClient,
    MockTransport,
    Request,
    Response,
)  # fmt: skip
from nicegui import Client, ui
from nicegui.functions.download import download
from nicegui.functions.navigate import Navigate
from nicegui.functions.notify import notify
from nicegui.testing import User
from nicegui.testing.general import nicegui_reset_globals

from server.app import create_app
from server.console.app import create_console
from server.console.page import Page
from server.console.pages import PAGES
from server.gateway import Gateway
from tests.server.conftest import MakeGateway

ADDRESS = "http://localhost"
KEY = "sesame"  # of an admin
ADMIN = {"name": "ada", "role": "admin", "namespace": None, "all_namespaces": True}
# Signs in with a key and returns the user.
SignIn = Callable[[str], Awaitable[User]]


@pytest.fixture(scope="package", autouse=True)
def frozen_objects() -> Iterator[None]:
    """NiceGUI looks through all objects three times per application; torch's are a million."""
    gc.freeze()
    yield
    gc.unfreeze()


@asynccontextmanager
async def console_on(
    gateway: Gateway,
    *,
    alone: bool = True,
    pages: Sequence[Page] = PAGES,
    transport: AsyncBaseTransport | None = None,
) -> AsyncIterator[Callable[[], User]]:
    """Run a console on a gateway; give what makes a browser that is not signed in."""
    with nicegui_reset_globals():
        os.environ["NICEGUI_USER_SIMULATION"] = "true"
        app = create_console(
            ADDRESS, alone=alone, pages=pages,
            transport=transport or ASGITransport(create_app(gateway)),
        )  # fmt: skip
        browsers: list[AsyncClient] = []

        def browser() -> User:
            browsers.append(AsyncClient(transport=ASGITransport(app), base_url=ADDRESS))
            return User(browsers[-1])

        try:
            async with app.router.lifespan_context(app):
                yield browser
                for opened in browsers:
                    await opened.aclose()
                for client in list(Client.instances.values()):
                    client.delete()
                # What a page still sends is sent: else a task of NiceGUI misses its cancellation.
                await asyncio.sleep(0.01)
        finally:
            del os.environ["NICEGUI_USER_SIMULATION"]
            ui.navigate, ui.notify, ui.download = Navigate(), notify, download
            Client.page_routes.clear()  # or NiceGUI would unload the modules of these pages


def answering(answers: Mapping[str, object], who: Mapping[str, object] = ADMIN) -> MockTransport:
    """Return a server that gives the answer of the path's end; every other path is unknown."""

    async def answer(request: Request) -> Response:
        for end, body in {"/whoami": who, **answers}.items():
            if request.url.path.endswith(end):
                return Response(200, json=body)
        return Response(404, json={"detail": f"nothing at {request.url.path}", "code": "absent"})

    return MockTransport(answer)


@pytest.fixture
async def sign_in(make_gateway: MakeGateway) -> AsyncIterator[SignIn]:
    """Browsers on a console of a gateway with keys, signed in with one."""
    async with console_on(make_gateway(api_keys=(KEY,))) as browser:

        async def enter(key: str) -> User:
            user = browser()
            answer = await user.http_client.post("/sign-in", data={"key": key})
            assert (303, "/") == (answer.status_code, answer.headers["location"])
            return user

        yield enter


@pytest.fixture
async def user(sign_in: SignIn) -> User:
    """A browser whose key is an admin's."""
    return await sign_in(KEY)
