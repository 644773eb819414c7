"""What holds for every route: unknown query parameters, HEAD, trailing slashes; and the probes."""

from importlib.metadata import version

import pytest
from fastapi.routing import APIRoute
from httpx import AsyncClient

from server.app import create_app
from server.engine.fake import FakeEngine
from server.gateway import Gateway
from tests.server.admin.conftest import problem
from tests.server.asgi import CHAT
from tests.server.conftest import BASE
from tests.server.test_api import told

PARAMETERS = {
    "{name:path}": "zorp", "{number}": "1", "{alias}": "prod", "{digest}": "0" * 64,
    "{key}": "ci", "{model:path}": "zorp", "{file}": f"file-{'0' * 24}",
    "{job}": f"ftjob-{'0' * 24}",
}  # fmt: skip


def addresses(gateway: Gateway) -> list[tuple[str, str]]:
    """Return (method, path) of every route below /registry and /v1."""
    result = []
    for route in create_app(gateway).routes:
        assert isinstance(route, APIRoute)
        path = route.path
        for parameter, value in PARAMETERS.items():
            path = path.replace(parameter, value)
        if path.startswith(("/registry/", "/v1/")):
            result += [(method, path) for method in route.methods]
    return result


async def test_every_route_refuses_an_unknown_query_parameter(
    client: AsyncClient, gateway: Gateway
) -> None:
    """A query parameter that a route does not declare is 400 on every route, and is named."""
    for method, path in addresses(gateway):
        response = await client.request(method, path, params={"querry": "x"})
        body = response.json()
        assert response.status_code == 400, (method, path, response.text)
        assert "Unknown query parameter 'querry'" in str(body), (method, path)


async def test_the_error_names_the_parameters_near_and_known(client: AsyncClient) -> None:
    """The message suggests the near name and lists those that the route accepts."""
    response = await client.get("/registry/search", params={"exmaple": "law"})
    detail = problem(response, 400, "invalid_request")["detail"]
    assert "did you mean example?" in detail
    assert "accepts text, like, by, example, filter, limit." in detail
    response = await client.get("/registry/search", params={"example": "law"})
    assert response.status_code == 200, response.text
    response = await client.post(CHAT, params={"api-version": "1"}, json={"model": BASE})
    assert "accepts no query parameters" in told(response)["message"]
    assert told(response)["param"] == "api-version"


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/ready",
        "/v1/models",
        "/v1/models/zorp",
        "/registry/adapters",
        "/metrics",
        "/docs",
    ],
)
async def test_head_answers_as_get_without_the_body(client: AsyncClient, path: str) -> None:
    """HEAD has the status and headers of GET and no body; where GET is missing, so is HEAD."""
    full, head = await client.get(path), await client.head(path)
    assert (full.status_code, b"") == (head.status_code, head.content)
    assert full.headers["content-type"] == head.headers["content-type"]
    assert (await client.head(CHAT)).status_code == 405


@pytest.mark.parametrize(
    "path", ["/health/", "/v1/models/", "/v1/models/zorp/", "/registry/adapters/zorp/", "/docs//"]
)
async def test_a_trailing_slash_is_ignored(client: AsyncClient, path: str) -> None:
    """A path with a slash at its end is answered, not redirected."""
    assert (await client.get(path)).status_code == 200


async def test_a_trailing_slash_keeps_the_body(client: AsyncClient) -> None:
    """A POST to a path with a slash at its end is answered with its body."""
    response = await client.post(f"{CHAT}/", json={"model": BASE})
    assert BASE == response.json()["model"]


async def test_the_version_is_the_package_s(client: AsyncClient) -> None:
    """/version returns the version of the installed package, as does the document."""
    assert {"version": version("weft")} == (await client.get("/version")).json()
    assert version("weft") == (await client.get("/openapi.json")).json()["info"]["version"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_ping_follows_the_engine(
    client: AsyncClient, engine: FakeEngine, method: str
) -> None:
    """/ping says by GET and by POST whether requests can be answered, as SageMaker asks."""
    assert (await client.request(method, "/ping")).status_code == 200
    engine.up = False
    assert (await client.request(method, "/ping")).status_code == 503
