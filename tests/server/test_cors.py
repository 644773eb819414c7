"""Web pages of other origins: none without WEFT_CORS_ORIGINS, and then exactly those."""

import pytest
from httpx import AsyncClient

from registry.service import Registry
from tests.server.conftest import BASE, MakeClient, MakeGateway

PAGE, OTHER = "https://chat.example.com", "https://evil.example"
CHAT = {"model": BASE, "messages": [{"role": "user", "content": "Hello"}]}
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}


async def preflight(client: AsyncClient, origin: str) -> tuple[int, str | None]:
    """Ask as a browser does before a POST; return the status and the origin that is allowed."""
    answer = await client.options("/v1/chat/completions", headers={"origin": origin} | PREFLIGHT)
    return answer.status_code, answer.headers.get("access-control-allow-origin")


async def test_pages_of_no_site_may_call_by_default(
    make_gateway: MakeGateway, make_client: MakeClient
) -> None:
    """Without the setting no answer has a header of CORS, and a preflight needs a key."""
    async with make_client(make_gateway(api_keys="sesame")) as client:
        assert (401, None) == await preflight(client, PAGE)
        headers = {"origin": PAGE, "authorization": "Bearer sesame"}
        answer = await client.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert 200 == answer.status_code
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origins", [PAGE, "*"])
async def test_a_page_of_an_allowed_origin_reads_answers_and_refusals(
    make_gateway: MakeGateway, make_client: MakeClient, origins: str
) -> None:
    """Its preflight needs no key, its request does, and it reads the digest and an error's text;
    cookies are not asked for."""
    async with make_client(make_gateway(api_keys="sesame", cors_origins=origins)) as client:
        assert (200, origins) == await preflight(client, PAGE)
        headers = {"origin": PAGE}
        refused = await client.post("/v1/chat/completions", json=CHAT, headers=headers)
        headers["authorization"] = "Bearer sesame"
        answer = await client.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert (401, 200) == (refused.status_code, answer.status_code)
    for response in (refused, answer):
        assert origins == response.headers["access-control-allow-origin"]
        assert "x-weft-artifact" in response.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in response.headers


async def test_a_page_of_another_origin_reads_nothing(
    make_gateway: MakeGateway, make_client: MakeClient
) -> None:
    """Its preflight is refused, and its answers carry no permission to read them."""
    async with make_client(make_gateway(api_keys="sesame", cors_origins=PAGE)) as client:
        assert (400, None) == await preflight(client, OTHER)
        answer = await client.get("/v1/models", headers={"origin": OTHER})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("origins", "allowed"), [(PAGE, True), ("https://else.example", False), ("*", False)]
)
async def test_without_keys_only_named_origins_call(
    make_gateway: MakeGateway, make_client: MakeClient, origins: str, allowed: bool
) -> None:
    """A server that has no keys keeps refusing pages of other sites; `*` lets none in, since every
    page would be an admin."""
    headers = {"origin": PAGE, "sec-fetch-site": "cross-site"}
    async with make_client(make_gateway(cors_origins=origins)) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert (200 if allowed else 403) == answer.status_code
        evil = {"origin": OTHER, "sec-fetch-site": "cross-site"}
        body = {"name": "mine", "role": "admin", "all_namespaces": True}
        refused = await client.post("/registry/keys", json=body, headers=evil)
        assert "cross_site_refused" == refused.json()["code"]


async def test_an_allowed_origin_proves_no_role(
    make_gateway: MakeGateway, make_client: MakeClient, registry: Registry
) -> None:
    """A key's role holds whatever page sends it."""
    _, key = registry.access.keys.create("app", role="chat", all_namespaces=True)
    headers = {"origin": PAGE, "authorization": f"Bearer {key}"}
    async with make_client(make_gateway(cors_origins=PAGE)) as client:
        assert 403 == (await client.get("/registry/keys", headers=headers)).status_code
