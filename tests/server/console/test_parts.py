"""The parts of pages, each on a page of its own."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from server.console.api.adapters import adapters
from server.console.api.errors import Refused
from server.console.page import Page, PageContext
from server.console.parts import section
from server.console.parts.chart import axis, chart
from server.console.parts.confirm import confirmed
from server.console.parts.refusal import attempt
from server.console.parts.section import Section
from server.console.parts.table import Column, Table, Value, written
from server.console.parts.text import long_text, plain
from server.gateway import Gateway
from tests.server.console.conftest import console_on

HOSTILE = "<img src=x onerror=alert(1)>\u202e{{ 7 * 7 }}"


def page_of(build: Callable[[PageContext], None]) -> list[Page]:
    """Return the pages of a console that has one."""
    return [Page("/", "Test", build, menu="Test")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("abc\u202edef", "abc⟨U+202E⟩def"),
        ("a\x00b\ud800", "a⟨U+0000⟩b⟨U+D800⟩"),
        ("line\n\tend", "line\n\tend"),
        ("شكرا", "شكرا"),
        ("x" * 301, "x" * 300 + "…"),
    ],
)
def test_text_is_shown_as_text(text: str, shown: str) -> None:
    """Characters that reorder or hide text are shown by number; markup and letters stay."""
    assert shown == plain(text)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (True, "yes"), (12, "12"), (0.009648, "0.009648"), (12579.6, "12580"),
     (2e-12, "2e-12"), (3e12, "3e+12"), (-4321.9, "-4322")],
)  # fmt: skip
def test_cells_show_numbers_that_people_read(value: Value, shown: str) -> None:
    """Thousands are written out, four digits stay of what is smaller, what is missing is a dash."""
    assert shown == written(value)


async def test_a_long_text_is_shown_in_steps(gateway: Gateway) -> None:
    """Of 50,000 characters 20,000 are sent at first, and the others on request."""

    def build(_: PageContext) -> None:
        long_text("a" * 49_999 + "Z", "Card")

    async with console_on(gateway, pages=page_of(build)) as browser:
        user = browser()
        await user.open("/")
        await user.should_not_see("Z", retries=1)
        user.find("Show more").click()
        user.find("Show more").click()
        await user.should_see("Z")
        await user.should_not_see("Show more", retries=1)


async def test_a_table_sorts_and_pages(gateway: Gateway) -> None:
    """Numbers are sorted as numbers, a second click turns the order, and 20 rows are a page."""

    def build(_: PageContext) -> None:
        Table("Sizes", [Column[int]("Number", lambda n: n)], [*range(25)])

    async with console_on(gateway, pages=page_of(build)) as browser:
        user = browser()
        await user.open("/")
        await user.should_see("1 to 20 of 25")
        user.find("Number").click()
        user.find("Number").click()
        user.find("Next").click()
        await user.should_see("21 to 25 of 25")
        cells = [cell.text for cell in user.find(kind=TextElement, marker="cell").elements]
        assert ["0", "1", "2", "3", "4"] == sorted(cells)


async def test_hostile_text_of_cells_stays_text(gateway: Gateway) -> None:
    """A cell shows markup and templates as they are written."""

    def build(_: PageContext) -> None:
        Table("Names", [Column[str]("Name", lambda n: n, href=lambda _: "/x")], [HOSTILE])

    async with console_on(gateway, pages=page_of(build)) as browser:
        user = browser()
        await user.open("/")
        await user.should_see("<img src=x onerror=alert(1)>⟨U+202E⟩{{ 7 * 7 }}")


async def test_a_chart_has_its_table(gateway: Gateway) -> None:
    """The values of a chart stand in a table, and its tooltips are drawn as text."""

    def build(_: PageContext) -> None:
        options = {"xAxis": axis("layer"), "yAxis": axis("norm"), "series": []}
        chart("Norms", options, [Column[float]("Norm", lambda n: n)], [1.25])

    async with console_on(gateway, pages=page_of(build)) as browser:
        user = browser()
        await user.open("/")
        await user.should_see("1.25")
        (drawn,) = user.find(ui.echart).elements
        assert "richText" == drawn.options["tooltip"]["renderMode"]


async def dead(request: httpx.Request) -> httpx.Response:
    """Answer as a server that is down."""
    if request.url.path.endswith("whoami"):
        body = {"name": "a", "role": "read", "namespace": None, "all_namespaces": True}
        return httpx.Response(200, json=body)
    raise httpx.ConnectError("connection refused")


def listing(page: PageContext) -> None:
    """Build a page that asks for the adapters."""

    async def build() -> None:
        ui.label(f"{len((await adapters(page.api)).items)} adapters")

    Section(build)


async def test_a_dead_server_is_told_and_asked_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page says that its server does not answer, asks again by itself, and then shows it."""
    monkeypatch.setattr(section, "_RETRY_SECONDS", 0.05)
    asked = 0

    async def back_later(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += request.url.path.endswith("adapters")
        if asked > 2:
            return httpx.Response(200, json={"items": [], "next_cursor": None})
        return await dead(request)

    transport = httpx.MockTransport(back_later)
    async with console_on(gateway, pages=page_of(listing), transport=transport) as browser:
        user = browser()
        await user.open("/")
        await user.should_see("No answer from http://localhost")
        await user.should_see("Retry")
        await user.should_see("0 adapters", retries=20)
        await user.should_not_see("No answer", retries=1)


async def test_a_slow_server_is_told(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page says that it still waits, and shows the answer when it comes."""
    monkeypatch.setattr(section, "_WAITING_SECONDS", 0.0)
    monkeypatch.setattr(section, "SLOW_SECONDS", 0.0)
    come = asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("adapters"):
            await come.wait()
            return httpx.Response(200, json={"items": [], "next_cursor": None})
        return await dead(request)

    transport = httpx.MockTransport(slow)
    async with console_on(gateway, pages=page_of(listing), transport=transport) as browser:
        user = browser()
        await user.open("/")
        await user.should_see("The server has not answered yet")
        come.set()
        await user.should_see("0 adapters")
        await user.should_not_see("The server has not answered yet", retries=1)


async def test_a_revoked_key_leads_to_the_sign_in(gateway: Gateway) -> None:
    """A session whose key is not known any more is asked for another."""

    async def revoked(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("adapters"):
            return httpx.Response(401, json={"detail": "no", "code": "invalid_api_key"})
        return await dead(request)

    transport = httpx.MockTransport(revoked)
    async with console_on(gateway, pages=page_of(listing), transport=transport) as browser:
        user = browser()
        await user.open("/")
        await asyncio.sleep(0.1)
        assert "/sign-in" == user.back_history[-1]


def asking(action: Callable[[], Awaitable[None]]) -> list[Page]:
    """Return a page with a button that asks before it acts."""

    async def act() -> None:
        if await confirmed("Really?", do="Move"):
            await attempt(action)

    def build(_: PageContext) -> None:
        ui.button("Act", on_click=act)

    return page_of(build)


@pytest.mark.parametrize(("choice", "acts"), [("Move", True), ("Cancel", False)])
async def test_a_question_comes_first(gateway: Gateway, choice: str, *, acts: bool) -> None:
    """What a dialog asks about is done only if the answer says so."""
    acted: list[int] = []

    async def act() -> None:
        acted.append(1)

    async with console_on(gateway, pages=asking(act)) as browser:
        user = browser()
        await user.open("/")
        user.find("Act").click()
        await user.should_see("Really?")
        user.find(choice).click()
        await user.should_not_see("Really?")
        assert acts == bool(acted)


async def test_a_refusal_of_a_button_is_shown(gateway: Gateway) -> None:
    """What a button did and the API refused is told in the API's words."""

    async def act() -> None:
        raise Refused("the request needs the role publish", status=403)

    async with console_on(gateway, pages=asking(act)) as browser:
        user = browser()
        await user.open("/")
        user.find("Act").click()
        await user.should_see("Really?")
        user.find("Move").click()
        await user.should_see("the request needs the role publish")
