"""API keys: every route outside OPEN_PATHS needs one when the settings name any."""

from collections.abc import AsyncIterator

import pytest
from httpx import AsyncClient

from tests.server.conftest import BASE, MakeClient, MakeGateway

ROUTES = [
    ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("GET", "/v1/models"),
    ("GET", f"/v1/models/{BASE}"), ("GET", "/metrics"), ("GET", "/version"), ("GET", "/health/x"),
    ("GET", "/nothing"), ("HEAD", "/v1/models"), ("GET", "/openapi.json/"),
]  # fmt: skip


@pytest.fixture
async def guarded(make_gateway: MakeGateway, make_client: MakeClient) -> AsyncIterator[AsyncClient]:
    """A client of a gateway with two keys."""
    async with make_client(make_gateway(api_keys="first-key, second-key")) as client:
        yield client


@pytest.mark.parametrize(
    "header", [None, "", "Bearer ", "Bearer wrong", "Bearer first-key2", "Basic first-key",
               "Bearer first-key,second-key", "Bearer Bearer first-key"],
)  # fmt: skip
async def test_no_route_is_open_without_a_key(guarded: AsyncClient, header: str | None) -> None:
    """No key, a wrong one or another scheme is 401 on every route, known or not."""
    headers = {} if header is None else {"authorization": header}
    for method, path in ROUTES:
        response = await guarded.request(method, path, headers=headers)
        assert response.status_code == 401, path
        if method != "HEAD":
            error = response.json()["error"]
            assert ("invalid_api_key", "authentication_error") == (error["code"], error["type"])


@pytest.mark.parametrize("key", ["first-key", "second-key"])
async def test_each_key_opens(guarded: AsyncClient, key: str) -> None:
    """Any one of the keys is accepted."""
    headers = {"authorization": f"Bearer {key}"}
    assert (await guarded.get("/v1/models", headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/health/", "/ready", "/ping", "/docs"])
async def test_probes_and_the_page_of_the_documentation_are_open(
    guarded: AsyncClient, path: str
) -> None:
    """Health checks and the page at /docs need no key."""
    assert (await guarded.get(path)).status_code == 200


async def test_without_keys_everything_is_open(client: AsyncClient) -> None:
    """Without keys in the settings no key is required, and a given one is ignored."""
    assert (await client.get("/v1/models")).status_code == 200
    headers = {"authorization": "Bearer anything"}
    assert (await client.get("/v1/models", headers=headers)).status_code == 200


async def test_a_refusal_is_counted(guarded: AsyncClient) -> None:
    """The metrics count requests without a key."""
    await guarded.get("/v1/models")
    headers = {"authorization": "Bearer first-key"}
    text = (await guarded.get("/metrics", headers=headers)).text
    assert 'weft_requests_total{route="/v1/models",status="401"} 1.0' in text


async def test_the_scheme_of_a_key_is_bearer_in_any_case(
    make_gateway: MakeGateway, make_client: MakeClient
) -> None:
    """`bearer KEY` equals `Bearer KEY`; a key without a scheme is refused."""
    async with make_client(make_gateway(api_keys="sesame")) as client:
        for header, status in (("bearer sesame", 200), ("sesame", 401)):
            response = await client.get("/v1/models", headers={"authorization": header})
            assert status == response.status_code, header
