"""Requests that pages of other sites could make, and the headers of answers."""

import pytest
from nicegui.testing import User


@pytest.mark.parametrize("host", ["evil.example", "weft.evil.example:8766", "["])
async def test_another_host_is_refused(user: User, host: str) -> None:
    """A name that another site points at this machine opens no page."""
    answer = await user.http_client.get("/", headers={"host": host})
    assert 403 == answer.status_code


async def test_another_site_posts_nothing(user: User) -> None:
    """A form of another site does not sign anybody in."""
    headers = {"origin": "https://evil.example"}
    answer = await user.http_client.post("/sign-in", data={"key": "x"}, headers=headers)
    assert 403 == answer.status_code


async def test_pages_load_and_send_nothing_elsewhere(user: User) -> None:
    """The policy of every page allows its own origin only, and no frame of another."""
    policy = (await user.http_client.get("/")).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy


async def test_the_form_of_a_page_says_where_it_is_from(user: User) -> None:
    """Pages tell their own origin to their own forms, without which a sign-in is refused."""
    answer = await user.http_client.get("/")
    assert "same-origin" == answer.headers["referrer-policy"]
