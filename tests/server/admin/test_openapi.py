"""The OpenAPI document is complete, and no request by it or against it causes a server error."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from httpx import AsyncClient
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Receive, Scope, Send

from server.admin.openapi import describe
from server.app import create_app
from server.gateway import Gateway
from tests.server.conftest import MakeGateway

# The framework's own, and what the example of a search holds.
SHOWN_ELSEWHERE = {"HTTPValidationError", "ValidationError", "HitBody", "ReasonBody"}
SHARES = 4
THERE = {"name": "zorp", "number": 1, "alias": "prod"}  # what generated paths rarely name
METHODS = {"get", "put", "post", "patch", "delete"}
DEAR = {"POST /registry/bases": 3}  # requests: each starts a process that imports transformers


@schemathesis.serializer("application/x-tar")
def tar(_: object, value: object) -> bytes:
    """Generate a body for a tar upload, which need not be a tar."""
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture
def document(gateway: Gateway) -> dict[str, Any]:
    """The OpenAPI document of all routes."""
    return describe(create_app(gateway))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and operation."""
    for path, item in document["paths"].items():
        yield from ((method, path, item[method]) for method in METHODS & set(item))


def test_every_route_is_described_with_examples(document: dict[str, Any]) -> None:
    """Every route has a summary and its problems, and the fields of its bodies have examples."""
    parts = document["components"]["schemas"]
    assert len(list(operations(document))) > 40
    for method, path, operation in operations(document):
        assert operation["description"], (method, path)
        if path.startswith("/registry/"):
            assert {"4XX", "5XX"} <= set(operation["responses"]), (method, path)
    without = [
        f"{name}.{field}"
        for name, part in parts.items()
        if name not in SHOWN_ELSEWHERE and "example" not in part
        for field, described in part.get("properties", {}).items()
        if not ("examples" in described or "$ref" in str(described))
    ]
    assert [] == without


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_inference_is_described_with_its_body(document: dict[str, Any], path: str) -> None:
    """The inference routes have a summary, and a body that explains `model` with examples."""
    operation = document["paths"][path]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert operation["summary"]
    assert "model" in schema["required"]
    assert schema["properties"]["model"]["description"]
    assert {"application/json", "text/event-stream"} == set(
        operation["responses"]["200"]["content"]
    )


async def test_the_page_at_docs_needs_no_other_server(client: AsyncClient) -> None:
    """/docs is one file without external addresses, and its policy forbids loading any."""
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert "//" not in page.text.replace("// ", "")
    assert "src=" not in page.text


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("examples", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_no_request_finds_a_fault_of_ours(
    make_gateway: MakeGateway, share: int, examples: int
) -> None:
    """No request of an admin is answered with 5xx, but for a route that the engine lacks (501)."""
    app = with_key(create_app(make_gateway(api_keys=("secret",))), "secret")
    schema: Any = schemathesis.openapi.from_asgi("/openapi.json", app)
    found = [result.ok() for result in schema.get_all_operations()]
    for operation in sorted(found, key=lambda each: str(each.label))[share::SHARES]:
        attack(operation, min(examples, DEAR.get(operation.label, examples)))


def with_key(app: ASGIApp, key: str) -> ASGIApp:
    """Return `app` with this key in every request, in place of a generated header."""

    async def keyed(scope: Scope, receive: Receive, send: Send) -> None:
        kept = [pair for pair in scope.get("headers", ()) if pair[0] != b"authorization"]
        headers = [*kept, (b"authorization", f"Bearer {key}".encode())]
        await app({**scope, "headers": headers}, receive, send)

    return keyed


def attack(operation: Any, examples: int) -> None:
    """Send valid and invalid requests of one operation."""

    @seed(0)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def send(data: st.DataObject) -> None:
        mode = data.draw(st.sampled_from(list(schemathesis.GenerationMode)))
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if data.draw(st.booleans()):
            case.path_parameters |= {k: v for k, v in THERE.items() if k in case.path_parameters}
        response = case.call(timeout=60)  # a base is read in a child, which imports transformers
        assert response.status_code != 401
        if response.status_code == 501:  # the fake engine has no /v1/responses
            assert response.json()["error"]["code"] == "not_served", response.text
            return
        assert response.status_code < 500, (case.as_curl_command(), response.text)

    send()
