"""A gateway without keys serves this machine only, and no web page of another site."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from httpx import AsyncClient

from server.preflight import OpenToOthers, check_reach
from server.serve import serve
from tests.server.conftest import BASE, MakeClient, MakeGateway, MakeSettings

CHAT = {"model": BASE, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST.",
             "a.localhost"],
)  # fmt: skip
async def test_names_of_this_machine_are_answered(client: AsyncClient, host: str) -> None:
    """Without keys, requests to loopback names are answered."""
    assert (await client.get("/v1/models", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.7", "", "[::1",
             "localhost@evil.example"],
)  # fmt: skip
async def test_other_names_are_refused(client: AsyncClient, host: str) -> None:
    """Without keys, a name that somebody may have pointed at this machine is refused."""
    response = await client.get("/v1/models", headers={"host": host})
    assert response.status_code == 403
    assert "host_refused" == response.json()["error"]["code"]
    body = {"name": "mine", "role": "admin", "all_namespaces": True}
    made = await client.post("/registry/keys", json=body, headers={"host": host})
    assert "host_refused" == made.json()["code"]


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "null"},
     {"origin": "https://evil.example"}, {"origin": "http://localhost:3000"}],
)  # fmt: skip
async def test_pages_of_other_sites_are_refused(
    client: AsyncClient, headers: dict[str, str]
) -> None:
    """Without keys, a request that a browser sends for another site's page is refused."""
    for method, path in (("GET", "/v1/models"), ("POST", "/registry/garbage/collect")):
        response = await client.request(method, path, headers=headers)
        assert response.status_code == 403
        assert "cross_site_refused" in response.text


@pytest.mark.parametrize(
    "headers", [{}, {"sec-fetch-site": "same-origin", "origin": "http://localhost"},
                {"sec-fetch-site": "none"}]
)  # fmt: skip
async def test_other_programs_and_the_own_page_are_answered(
    client: AsyncClient, headers: dict[str, str]
) -> None:
    """Requests of programs, of the address bar and of the page at /docs are answered."""
    assert (await client.get("/openapi.json", headers=headers)).status_code == 200


async def test_with_keys_the_key_is_proof_enough(
    make_gateway: MakeGateway, make_client: MakeClient
) -> None:
    """With keys, any host and any page that has a key is answered, until hosts are listed."""
    foreign = {"host": "weft.example.com", "origin": "https://chat.example.com",
               "authorization": "Bearer sesame"}  # fmt: skip
    async with make_client(make_gateway(api_keys="sesame")) as client:
        assert (await client.get("/v1/models", headers=foreign)).status_code == 200
    for hosts, status in (("weft.example.com", 200), ("*.example.com, x", 200), ("x", 403)):
        async with make_client(make_gateway(api_keys="sesame", allowed_hosts=hosts)) as client:
            assert status == (await client.get("/v1/models", headers=foreign)).status_code, hosts


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "json"])
async def test_a_body_must_be_said_to_be_json(client: AsyncClient, kind: str) -> None:
    """A JSON body of another type is 415 on every route: web pages may send those anywhere."""
    body = b'{"model": "weft/demo-llama", "messages": [], "name": "k", "role": "read"}'
    for path in ("/v1/chat/completions", "/v1/completions", "/registry/keys"):
        response = await client.post(path, content=body, headers={"content-type": kind})
        assert response.status_code == 415, path
        assert "unsupported_media_type" in response.text
    assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200


@pytest.fixture
def sockets() -> Iterator[dict[str, socket.socket]]:
    """Sockets that are bound to loopback and to every interface."""
    bound = {host: socket.socket() for host in ("127.0.0.1", "0.0.0.0")}  # noqa: S104
    for host, one in bound.items():
        one.bind((host, 0))
    yield bound
    for one in bound.values():
        one.close()


def test_other_machines_need_a_key(sockets: dict[str, socket.socket]) -> None:
    """Listening beyond loopback without keys is refused, with what to do."""
    check_reach(sockets["127.0.0.1"], has_keys=False)
    check_reach(sockets["0.0.0.0"], has_keys=True)  # noqa: S104
    with pytest.raises(OpenToOthers, match=r"weft keys create NAME --role admin --all-namespaces"):
        check_reach(sockets["0.0.0.0"], has_keys=False)  # noqa: S104


def test_serving_other_machines_without_keys_does_not_start(make_settings: MakeSettings) -> None:
    """`weft serve` refuses before it starts the engine."""
    settings = make_settings(host="0.0.0.0", port=0)  # noqa: S104
    with pytest.raises(OpenToOthers):
        asyncio.run(serve(settings))
