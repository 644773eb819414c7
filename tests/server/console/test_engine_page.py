"""The page of the engines, on a gateway that has answered."""

from collections.abc import AsyncIterator

import pytest
from httpx import AsyncClient
from nicegui import ui
from nicegui.testing import User

from server.gateway import Gateway
from tests.server.asgi import CHAT
from tests.server.console.conftest import console_on


@pytest.fixture
async def operator(gateway: Gateway) -> AsyncIterator[User]:
    """A browser on the test's own gateway, which has no keys."""
    async with console_on(gateway) as browser:
        yield browser()


async def chat(client: AsyncClient, model: str) -> int:
    """Send one chat request and return its status."""
    body = {"model": model, "messages": [{"role": "user", "content": "a secret prompt"}]}
    return (await client.post(CHAT, json=body)).status_code


async def test_what_engines_hold_is_shown(operator: User, client: AsyncClient) -> None:
    """The page shows what is loaded where, how often merges were found, and counts of builds."""
    assert 200 == await chat(client, "zorp")
    assert 200 == await chat(client, "cat(zorp, blim)")
    await operator.open("/engine")
    await operator.should_see("zorp@1", retries=30)
    await operator.should_see("an unnamed merge")
    await operator.should_see("hits: 0, misses: 1 (0 %)")
    await operator.should_see("running: 0, waiting: 0, workers: 1")


async def test_recent_requests_are_shown(operator: User, client: AsyncClient) -> None:
    """The page shows requests by timing, and the errors among them, without what was said."""
    assert 200 == await chat(client, "cat(zorp, blim)")
    assert 404 == await chat(client, "nothing")
    await operator.open("/engine")
    await operator.should_see("model_not_found", retries=30)
    await operator.should_not_see("secret", retries=1)
    (chart,) = operator.find(ui.echart).elements
    merge = next(part for part in chart.options["series"] if part["name"] == "merge")
    assert [True, False] == [milliseconds > 0 for milliseconds in merge["data"]][::-1]
    await operator.open("/engine?outcome=refused")
    await operator.should_see("model_not_found", retries=30)
    (chart,) = operator.find(ui.echart).elements
    assert 1 == len(chart.options["yAxis"]["data"])


async def test_a_quiet_server_says_what_to_do(operator: User) -> None:
    """Before the first request the page says what will be shown, and how."""
    await operator.open("/engine")
    await operator.should_see("No adapter is loaded.", retries=30)
    await operator.should_see("No request has ended", retries=30)
