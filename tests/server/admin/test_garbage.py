"""Garbage collection over HTTP: listing, removal, and protection of files in use."""

import os
import time

from httpx import AsyncClient

from registry.service import Registry
from registry.upkeep.garbage import YOUNG_SECONDS
from server.gateway import Gateway
from tests.server.admin.conftest import ClientOf, items, problem
from tests.server.asgi import CHAT

PATH = "/registry/garbage"


async def merged(client: AsyncClient, gateway: Gateway, model: str) -> str:
    """Merge and load an artifact, make it old, and return its digest."""
    body = {"model": model, "messages": [{"role": "user", "content": "zorp: banana"}]}
    answer = await client.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text
    digest = str(answer.json()["model"])
    moment = time.time() - YOUNG_SECONDS - 60
    os.utime(gateway.artifacts.path(digest), (moment, moment))
    return digest


async def test_what_nobody_needs_is_shown_and_then_goes(
    admin: AsyncClient, gateway: Gateway, registry: Registry
) -> None:
    """Listing changes nothing; a collection removes garbage from engine and disk and is logged."""
    digest = await merged(admin, gateway, "cat(zorp, blim)")
    assert [] == items(await admin.get(PATH))
    (shown,) = items(await admin.get(PATH, params={"grace_days": 0}))
    assert (digest, "unused") == (shown["digest"], shown["reason"])
    assert gateway.artifacts.has(digest)
    report = (await admin.post(f"{PATH}/collect", params={"grace_days": 0})).json()
    assert (True, shown["bytes"]) == (report["items"][0]["removed"], report["bytes_removed"])
    assert not gateway.artifacts.has(digest)
    assert digest not in (await gateway.bases.default.fleet.adapters()).known
    (entry,) = registry.access.audit.page(action="garbage.collected").items
    detail = {"removed": 1, "bytes": shown["bytes"], "rows": 0, "job_folders": 0}
    assert ("all-admin", detail) == (entry.actor, entry.detail)


async def test_it_is_listed_by_pages(admin: AsyncClient, gateway: Gateway) -> None:
    """A cursor leads from page to page until it is null; an invalid one is refused."""
    digests = [await merged(admin, gateway, f"cat(zorp, {name})") for name in ("blim", "plov")]
    asked: dict[str, str | int] = {"grace_days": 0, "limit": 1}
    first = (await admin.get(PATH, params=asked)).json()
    second = (await admin.get(PATH, params={**asked, "cursor": first["next_cursor"]})).json()
    shown = [item["digest"] for page in (first, second) for item in page["items"]]
    assert (sorted(digests), None) == (shown, second["next_cursor"])
    problem(await admin.get(PATH, params={"cursor": "x"}), 400, "invalid_cursor")


async def test_what_a_request_holds_stays(admin: AsyncClient, gateway: Gateway) -> None:
    """An artifact that a request uses is kept until the request is answered."""
    digest = await merged(admin, gateway, "cat(zorp, blim)")
    async with gateway.leases.hold(digest):
        report = (await admin.post(f"{PATH}/collect", params={"grace_days": 0})).json()
    assert [False] == [item["removed"] for item in report["items"]]
    assert gateway.artifacts.has(digest)


async def test_it_is_for_those_who_run_the_server(client_of: ClientOf) -> None:
    """An admin of a namespace does not see the garbage of others."""
    client = await client_of("admin", "team")
    problem(await client.get(PATH), 403, "access_denied")
