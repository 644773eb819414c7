"""`GET /registry/whoami`: what a key is told of itself."""

import pytest
from httpx import AsyncClient

from registry.callers import ROLES, Role
from registry.service import Registry
from tests.server.admin.conftest import ClientOf


@pytest.mark.parametrize("namespace", [None, "team"])
@pytest.mark.parametrize("role", ROLES)
async def test_a_key_is_told_its_rights(
    client_of: ClientOf, role: Role, namespace: str | None
) -> None:
    """A key of any role is told its name, its role, and its namespace or all of them."""
    client = await client_of(role, namespace)
    assert {
        "name": f"{namespace or 'all'}-{role}", "role": role, "namespace": namespace,
        "all_namespaces": namespace is None,
    } == (await client.get("/registry/whoami")).json()  # fmt: skip


async def test_a_key_without_a_namespace_has_none(client: AsyncClient, registry: Registry) -> None:
    """A key with rights to no namespace is told neither a namespace nor all of them."""
    _, key = registry.access.keys.create("visitor", role="read")
    client.headers["authorization"] = f"Bearer {key}"
    told = (await client.get("/registry/whoami")).json()
    assert (None, False) == (told["namespace"], told["all_namespaces"])


async def test_without_keys_every_caller_is_an_admin(client: AsyncClient) -> None:
    """A server without keys tells every caller that it is an admin of all namespaces."""
    told = (await client.get("/registry/whoami")).json()
    assert ("admin", True) == (told["role"], told["all_namespaces"])
