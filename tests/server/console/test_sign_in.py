"""Signing in: where the key goes, what is told, who is kept out."""

import pytest
from nicegui.testing import User

from server.console.sessions import Sessions, Throttle
from server.gateway import Gateway
from tests.server.conftest import MakeGateway
from tests.server.console.conftest import KEY, SignIn, console_on


async def test_a_page_leads_to_the_sign_in_and_back(make_gateway: MakeGateway) -> None:
    """Without a session a page is not shown; after the sign-in its address is opened."""
    async with console_on(make_gateway(api_keys=(KEY,))) as browser:
        http = browser().http_client
        asked = await http.get("/?tab=1")
        assert (303, "/sign-in?then=%2F%3Ftab%3D1") == (
            asked.status_code, asked.headers["location"],
        )  # fmt: skip
        entered = await http.post("/sign-in", data={"key": KEY, "then": "/?tab=1"})
        assert "/?tab=1" == entered.headers["location"]


@pytest.mark.parametrize("then", ["https://evil.example", "//evil.example", "/\\evil.example"])
async def test_the_sign_in_leads_to_no_other_site(make_gateway: MakeGateway, then: str) -> None:
    """An address of another site is not followed."""
    async with console_on(make_gateway(api_keys=(KEY,))) as browser:
        entered = await browser().http_client.post("/sign-in", data={"key": KEY, "then": then})
        assert "/" == entered.headers["location"]


async def test_a_wrong_key_is_told_in_the_words_of_the_api(make_gateway: MakeGateway) -> None:
    """The form is shown again with the API's sentence, and without the key."""
    async with console_on(make_gateway(api_keys=(KEY,))) as browser:
        user = browser()
        answer = await user.http_client.post("/sign-in", data={"key": "open-sesame"})
        await user.open(answer.headers["location"])
        await user.should_see("The API key is missing or wrong")
        page = await user.http_client.get("/sign-in")
        assert "open-sesame" not in page.text


async def test_the_key_is_in_no_page_and_no_cookie(
    user: User, caplog: pytest.LogCaptureFixture
) -> None:
    """Pages, cookies, addresses and logs do not have the key."""
    page = await user.http_client.get("/")
    assert 200 == page.status_code
    assert KEY not in page.text
    assert KEY not in str(user.http_client.cookies)
    assert KEY not in caplog.text


async def test_the_sign_in_is_throttled(make_gateway: MakeGateway) -> None:
    """After five wrong keys in a minute, even the right one of this address has to wait."""
    async with console_on(make_gateway(api_keys=(KEY,))) as browser:
        user = browser()
        for _ in range(5):
            await user.http_client.post("/sign-in", data={"key": "wrong"})
        answer = await user.http_client.post("/sign-in", data={"key": KEY})
        assert answer.headers["location"].startswith("/sign-in")
        await user.open(answer.headers["location"])
        await user.should_see("Too many keys were tried")


def test_tries_are_forgotten_after_a_minute() -> None:
    """An address may try again a minute after its first of five tries."""
    now = 0.0
    throttle = Throttle(lambda: now)
    assert [0.0] * 5 == [throttle.try_from("a") for _ in range(5)]
    now = 10.0
    assert 50.0 == throttle.try_from("a")
    assert 0.0 == throttle.try_from("b")
    now = 60.0
    assert 0.0 == throttle.try_from("a")


async def test_signing_out_ends_the_session(user: User) -> None:
    """After the sign-out the browser's old cookie opens no page."""
    cookies = dict(user.http_client.cookies)
    await user.http_client.get("/sign-in")
    user.http_client.cookies.update(cookies)
    assert 303 == (await user.http_client.get("/")).status_code


async def test_a_sign_in_changes_the_token(sign_in: SignIn) -> None:
    """A cookie of before the sign-in is of no use after it."""
    user = await sign_in(KEY)
    before = dict(user.http_client.cookies)
    await user.http_client.post("/sign-in", data={"key": KEY})
    user.http_client.cookies.update(before)
    assert 303 == (await user.http_client.get("/")).status_code


async def test_a_server_without_keys_needs_none_on_the_same_machine(gateway: Gateway) -> None:
    """Where only this machine reaches the console, an open server is entered at once."""
    async with console_on(gateway) as browser:
        user = browser()
        await user.open("/")
        await user.should_see("anybody")


async def test_others_need_a_key_even_for_a_server_without_keys(gateway: Gateway) -> None:
    """A console that other machines reach does not lend them its access to an open server."""
    async with console_on(gateway, alone=False) as browser:
        user = browser()
        await user.open("/")
        await user.should_see("API key")


def test_a_session_ends_after_twelve_idle_hours() -> None:
    """A session that is used stays; one that is not is forgotten with its key."""
    now = 0.0
    sessions = Sessions(lambda: now)
    token = sessions.start(KEY, who=None)  # type: ignore[arg-type]
    now = 11 * 3600.0
    assert sessions.find(token) is not None
    now += 12 * 3600.0 + 1
    assert sessions.find(token) is None
    assert KEY not in repr(sessions.find(sessions.start(KEY, who=None)))  # type: ignore[arg-type]
