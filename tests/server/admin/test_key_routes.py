"""Keys and the audit log over HTTP."""

import pytest
from httpx import AsyncClient

from registry.callers import Caller
from registry.service import Registry
from server.auth import ANYBODY, Keyring
from server.errors import KeyInvalid
from server.gateway import Gateway
from tests.server.admin.conftest import ClientOf, items, problem


async def test_a_key_is_shown_once_and_opens(admin: AsyncClient) -> None:
    """Only the answer that creates a key contains it; lists do not."""
    response = await admin.post("/registry/keys", json={"name": "ci", "role": "read"})
    assert response.status_code == 201
    key = response.json()["key"]
    headers = {"authorization": f"Bearer {key}"}
    assert (await admin.get("/registry/adapters", headers=headers)).status_code == 200
    listed = await admin.get("/registry/keys")
    assert ["all-admin", "ci"] == [item["name"] for item in items(listed)]
    assert key not in listed.text


async def test_a_revoked_key_closes_within_two_seconds(
    gateway: Gateway, admin: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revoked key may stay cached for two seconds; afterwards it is 401 permanently."""
    now = [1000.0]
    keyring = Keyring([], gateway.registry.access.keys, gateway.pools.auth, clock=lambda: now[0])
    _, key = gateway.registry.access.keys.create("ci", role="read")
    assert "ci" == (await keyring.caller(key)).name
    assert (await admin.delete("/registry/keys/ci")).status_code == 204
    now[0] += 2.0
    with pytest.raises(KeyInvalid):
        await keyring.caller(key)


async def test_keys_are_asked_for_once_a_second(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests within a second use the cached key, and unknown keys are cached as well."""
    now = [1000.0]
    asked: list[str] = []
    keys = gateway.registry.access.keys
    _, key = keys.create("ci", role="read")
    inner = keys.caller

    def ask(text: str) -> Caller | None:
        asked.append(text)
        return inner(text)

    monkeypatch.setattr(keys, "caller", ask)
    keyring = Keyring([], keys, gateway.pools.auth, clock=lambda: now[0])
    for _ in range(3):
        await keyring.caller(key)
        with pytest.raises(KeyInvalid):
            await keyring.caller("weft_wrong")
    assert [key, "weft_wrong"] == asked
    now[0] += 1.0
    await keyring.caller(key)
    assert [key, "weft_wrong", key] == asked


async def test_the_first_key_closes_the_doors_within_two_seconds(gateway: Gateway) -> None:
    """Requests without a key are allowed until the first key exists, even if that is revoked
    later.
    """
    now = [1000.0]
    keyring = Keyring([], gateway.registry.access.keys, gateway.pools.auth, clock=lambda: now[0])
    assert ANYBODY == await keyring.caller("whatever")
    gateway.registry.access.keys.create("ci", role="read")
    gateway.registry.access.keys.revoke("ci")
    now[0] += 2.0
    with pytest.raises(KeyInvalid):
        await keyring.caller("whatever")


async def test_the_settings_keys_are_admins_of_everything(gateway: Gateway) -> None:
    """Keys of the settings are full admins, with or without keys in the registry."""
    keyring = Keyring(["first", "sécret"], gateway.registry.access.keys, gateway.pools.auth)
    assert (Caller("settings-1"), Caller("settings-2")) == (
        await keyring.caller("first"), await keyring.caller("sécret".encode().decode("latin-1")),
    )  # fmt: skip
    with pytest.raises(KeyInvalid):
        await keyring.caller("third")


async def test_the_use_of_a_key_is_written_down(admin: AsyncClient, registry: Registry) -> None:
    """The use of a key is recorded after the request."""
    import asyncio

    await admin.get("/registry/keys")
    async with asyncio.timeout(5):
        while registry.access.keys.page().items[0].last_used_at is None:
            await asyncio.sleep(0.01)


async def test_an_admin_of_a_namespace_rules_there_only(client_of: ClientOf) -> None:
    """A namespace's admin manages only its keys; other keys are refused or unknown."""
    boss = await client_of("admin", "team")
    await client_of("read", "other")
    for namespace in (None, "other"):
        body = {"name": "more", "role": "read", "namespace": namespace}
        problem(await boss.post("/registry/keys", json=body), 403, "access_denied")
    body = {"name": "ours", "role": "chat", "namespace": "team"}
    assert (await boss.post("/registry/keys", json=body)).status_code == 201
    assert ["ours", "team-admin"] == [k["name"] for k in items(await boss.get("/registry/keys"))]
    problem(await boss.delete("/registry/keys/other-read"), 404, "key_not_found")
    assert (await boss.delete("/registry/keys/ours")).status_code == 204
    log = items(await boss.get("/registry/audit"))
    assert [("key.revoked", "ours"), ("key.created", "ours"), ("key.created", "team-admin")] == [
        (entry["action"], entry["subject"]) for entry in log
    ]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "all-admin", "role": "read"}, 409, "key_name_taken"),
        ({"name": "A B", "role": "read"}, 400, "invalid_request"),
        ({"name": "x", "role": "king"}, 400, "invalid_request"),
        ({"name": "x"}, 400, "invalid_request"),
        ({"name": "x", "role": "read", "namespace": "a/b"}, 400, "invalid_request"),
        ({"name": "x", "role": "read", "namspace": "team"}, 400, "invalid_request"),
    ],
)
async def test_a_key_that_cannot_be_is_told(
    admin: AsyncClient, body: dict[str, object], status: int, code: str
) -> None:
    """Invalid or taken names are refused, and so are unknown fields."""
    problem(await admin.post("/registry/keys", json=body), status, code)


async def test_the_log_is_filtered_and_paged(admin: AsyncClient) -> None:
    """The log is filtered by actor, action and subject, and paged by a cursor."""
    for i in range(3):
        await admin.post("/registry/keys", json={"name": f"k{i}", "role": "read"})
    mine = {"actor": "all-admin", "limit": "2"}
    page = (await admin.get("/registry/audit", params=mine)).json()
    rest = {**mine, "cursor": page["next_cursor"]}
    more = (await admin.get("/registry/audit", params=rest)).json()
    assert ["k2", "k1", "k0"] == [e["subject"] for e in (*page["items"], *more["items"])]
    assert more["next_cursor"] is None
    one = await admin.get("/registry/audit", params={"subject": "k1", "action": "key.created"})
    assert [{"role": "read", "namespace": None}] == [entry["detail"] for entry in items(one)]
    problem(await admin.get("/registry/audit", params={"cursor": "x"}), 400, "invalid_cursor")
