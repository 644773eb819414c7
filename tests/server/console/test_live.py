"""Sections that follow the server's answers in the same elements."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count

import pytest
from nicegui import ui
from nicegui.testing import User

from server.console.api.errors import Refused
from server.console.page import Page
from server.console.parts import section
from server.console.parts.live import live
from server.gateway import Gateway
from tests.server.console.conftest import console_on

Fetch = Callable[[], Awaitable[int]]


def draw(answer: int) -> Callable[[int], object]:
    """Show a number in a label that says with which it was drawn."""
    label = ui.label(f"drawn at {answer}, now {answer}")
    return lambda later: label.set_text(f"drawn at {answer}, now {later}")


@asynccontextmanager
async def page_of(
    gateway: Gateway, fetch: Fetch, until: Callable[[int], bool] = lambda _: False
) -> AsyncIterator[User]:
    """Open a page that follows `fetch`."""

    def build(_: object) -> None:
        live(fetch, draw, until=until, every=0.02)

    async with console_on(gateway, pages=[Page("/", "Test", build)]) as browser:
        user = browser()
        await user.open("/")
        yield user


async def test_later_answers_come_into_the_same_elements(gateway: Gateway) -> None:
    """An answer that differs is shown in the elements that the first one made."""
    numbers = count()

    async def fetch() -> int:
        return min(next(numbers), 3)

    async with page_of(gateway, fetch) as user:
        await user.should_see("drawn at 0, now 3", retries=30)


async def test_the_last_answer_ends_the_questions(gateway: Gateway) -> None:
    """Once an answer is the last, the server is not asked any more."""
    numbers = count()

    async def fetch() -> int:
        return next(numbers)

    async with page_of(gateway, fetch, until=lambda number: number == 2) as user:
        await user.should_see("drawn at 0, now 2", retries=30)
        await asyncio.sleep(0.1)
        assert 3 == next(numbers)


async def test_a_refusal_is_told_and_survived(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stops answering is told, asked again, and followed as before."""
    monkeypatch.setattr(section, "_RETRY_SECONDS", 0.05)
    numbers, back = count(), asyncio.Event()

    async def fetch() -> int:
        if back.is_set():
            return 5
        if next(numbers) > 0:
            raise Refused("No answer from http://localhost")
        return 0

    async with page_of(gateway, fetch) as user:
        await user.should_see("No answer from http://localhost", retries=30)
        await user.should_see("drawn at 0, now 0")
        back.set()
        await user.should_see("drawn at 5, now 5", retries=30)
        await user.should_not_see("No answer", retries=1)


async def test_the_questions_end_with_the_page(gateway: Gateway) -> None:
    """A page that is closed asks the server for nothing."""
    numbers = count()

    async def fetch() -> int:
        return next(numbers)

    async with page_of(gateway, fetch) as user:
        await user.should_see("drawn at 0, now", retries=30)
        assert user.client is not None
        user.client.delete()
        asked = next(numbers)
        await asyncio.sleep(0.1)
        assert asked + 1 == next(numbers)
