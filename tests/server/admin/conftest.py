"""Clients with keys of every role on one gateway, and a registry with private adapters."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
from httpx import ASGITransport, AsyncClient, Response

from registry.callers import Role
from registry.service import Registry
from registry.types import Base
from server.app import create_app
from server.gateway import Gateway
from tests.adapters import make_adapter
from tests.server.conftest import BASE


class ClientOf(Protocol):
    """Makes a client whose key has a role, and a namespace if one is named."""

    async def __call__(self, role: Role = "admin", namespace: str | None = None) -> AsyncClient:
        """Return the client."""


@pytest.fixture
async def client_of(gateway: Gateway, registry: Registry) -> AsyncIterator[ClientOf]:
    app = create_app(gateway)
    async with AsyncExitStack() as stack:

        async def make(role: Role = "admin", namespace: str | None = None) -> AsyncClient:
            name = f"{namespace or 'all'}-{role}"
            _, key = registry.access.keys.create(
                name, role=role, namespace=namespace, all_namespaces=namespace is None
            )
            return await stack.enter_async_context(
                AsyncClient(
                    transport=ASGITransport(app), base_url="http://localhost", trust_env=False,
                    headers={"authorization": f"Bearer {key}"},
                )
            )  # fmt: skip

        yield make


@pytest.fixture
async def admin(client_of: ClientOf) -> AsyncClient:
    return await client_of("admin")


@pytest.fixture
def hidden_folder(base: Base, tmp_path: Path) -> Path:
    """An adapter whose content has no public name; content with a public name is public."""
    module = "model.layers.0.self_attn.q_proj"
    d_out, d_in = base.shapes[module]
    return make_adapter(tmp_path / "hidden", modules={module: (d_in, d_out)}, base=BASE)


@pytest.fixture
def private(registry: Registry, hidden_folder: Path) -> str:
    """The name of an adapter, aliased prod, that is private to other/."""
    registry.adapters.register(hidden_folder, name="other/hidden", alias="prod")
    return "other/hidden"


def problem(response: Response, status: int, code: str) -> dict[str, Any]:
    """Check a problem document's shape, status and code, and return it."""
    assert "application/problem+json" == response.headers["content-type"], response.text
    body: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "instance", "code"} <= set(body)
    assert (status, status, code) == (response.status_code, body["status"], body["code"]), body
    assert f"urn:weft:problem:{code}" == body["type"]
    assert response.request.url.path == body["instance"]
    return body


def items(response: Response) -> list[dict[str, Any]]:
    """Return the items of a page."""
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["items"]
    return found
