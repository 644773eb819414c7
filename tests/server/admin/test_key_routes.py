"""Keys and the audit log over HTTP."""

import asyncio

import pytest
from httpx import AsyncClient

from registry.access.keys import LiveKeys
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


async def test_keys_are_read_once_a_second_and_junk_costs_one_read_more(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many keys that nobody issued come at once, they share one read of the database."""
    now, reads = [1000.0], 0
    keys = gateway.registry.access.keys
    _, key = keys.create("ci", role="read")
    inner = keys.live

    def live(known: LiveKeys | None = None) -> LiveKeys:
        nonlocal reads
        reads += 1
        return inner(known)

    monkeypatch.setattr(keys, "live", live)
    keyring = Keyring([], keys, gateway.pools.auth, clock=lambda: now[0])
    junk = [f"weft_{n:043}" for n in range(1000)] + ["weft_wrong", "", "x" * 10_000]
    for second in range(2):
        now[0] = 1000.0 + second
        answers = await asyncio.gather(*map(keyring.caller, junk), return_exceptions=True)
        assert all(isinstance(answer, KeyInvalid) for answer in answers)
        assert "ci" == (await keyring.caller(key)).name
        assert 2 * (second + 1) == reads


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
    assert ["team-admin", "team/ours"] == [
        k["name"] for k in items(await boss.get("/registry/keys"))
    ]
    problem(await boss.delete("/registry/keys/other-read"), 404, "key_not_found")
    assert (await boss.delete("/registry/keys/team/ours")).status_code == 204
    log = items(await boss.get("/registry/audit"))
    assert [
        ("key.revoked", "team/ours"), ("key.created", "team/ours"), ("key.created", "team-admin"),
    ] == [(entry["action"], entry["subject"]) for entry in log]  # fmt: skip


async def test_names_of_keys_tell_nothing_across_namespaces(client_of: ClientOf) -> None:
    """An admin of a namespace may use any name inside it: those of others are never taken."""
    everyone, boss = await client_of("admin"), await client_of("admin", "team")
    for name, namespace in (("ci", None), ("other/ci", "other"), ("cd", "other")):
        body = {"name": name, "role": "read", "namespace": namespace}
        assert (await everyone.post("/registry/keys", json=body)).status_code == 201
    for name in ("ci", "cd"):
        body = {"name": name, "role": "read", "namespace": "team"}
        assert (await boss.post("/registry/keys", json=body)).status_code == 201
    body = {"name": "other/ci", "role": "read", "namespace": "team"}
    problem(await boss.post("/registry/keys", json=body), 400, "invalid_name")


async def test_only_an_admin_of_everything_sets_limits(client_of: ClientOf) -> None:
    """The limits of keys are the operator's: an admin of a namespace cannot raise its own."""
    everyone, boss = await client_of("admin"), await client_of("admin", "team")
    path, own = "/registry/keys/team-admin/-/limits", {"requests": 5}
    problem(await boss.put(path, json=own), 403, "access_denied")
    body = {"name": "more", "role": "read", "namespace": "team", "limits": own}
    problem(await boss.post("/registry/keys", json=body), 403, "access_denied")
    answer = await everyone.put(path, json=own)
    limits = {"requests": 5, "tokens": None, "compositions": None, "build_seconds": None}
    assert limits == answer.json()["limits"]
    made = await everyone.post("/registry/keys", json=body)
    assert limits == made.json()["about"]["limits"]


async def test_a_scope_must_be_asked_for(client_of: ClientOf) -> None:
    """A key to publish without a namespace is refused; `all_namespaces` asks for all of them, and
    an admin of a namespace cannot.
    """
    everyone, boss = await client_of("admin"), await client_of("admin", "team")
    body: dict[str, object] = {"name": "k", "role": "publish"}
    problem(await everyone.post("/registry/keys", json=body), 400, "invalid_key_scope")
    body = {"name": "k", "role": "publish", "all_namespaces": True}
    problem(await boss.post("/registry/keys", json=body), 403, "access_denied")
    made = await everyone.post("/registry/keys", json=body)
    assert made.json()["about"]["all_namespaces"]


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
    assert [{"role": "read", "namespace": None, "all_namespaces": False}] == [
        entry["detail"] for entry in items(one)
    ]
    problem(await admin.get("/registry/audit", params={"cursor": "x"}), 400, "invalid_cursor")
