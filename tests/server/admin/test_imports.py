"""`/registry/imports`: folders on the server, but only below WEFT_IMPORT_ROOTS; recent imports."""

from pathlib import Path

import pytest
from httpx import AsyncClient, Response

from registry.service import Registry
from tests.server.admin.conftest import ClientOf, items, problem
from tests.server.conftest import DEMO, MakeClient, MakeGateway

FOLDER = DEMO / "adapters" / "krun"


async def imported(client: AsyncClient, folder: Path | str) -> Response:
    """Send a request to import a folder."""
    return await client.post("/registry/imports", json={"name": "legal", "folder": str(folder)})


async def test_a_folder_below_a_root_is_imported(
    make_gateway: MakeGateway, make_client: MakeClient
) -> None:
    """A folder below one of WEFT_IMPORT_ROOTS becomes a version."""
    async with make_client(make_gateway(import_roots=(DEMO,))) as client:
        response = await imported(client, FOLDER)
    assert (201, "legal") == (response.status_code, response.json()["version"]["name"])


@pytest.mark.parametrize("place", [FOLDER, "/nowhere", "/", "link", "root/../outside"])
async def test_a_folder_outside_is_denied_whether_it_exists_or_not(
    make_gateway: MakeGateway, make_client: MakeClient, tmp_path: Path, place: Path | str
) -> None:
    """Every path outside the roots, also by a link or `..`, has the same answer: 403."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(FOLDER)
    folder = {"link": root / "link", "root/../outside": root / ".." / "outside"}.get(
        str(place), place
    )
    async with make_client(make_gateway(import_roots=(root,))) as client:
        response = await imported(client, folder)
    detail = problem(response, 403, "access_denied")["detail"]
    assert "WEFT_IMPORT_ROOTS" in detail
    assert str(folder) not in detail


async def test_a_missing_folder_below_a_root_is_named(
    make_gateway: MakeGateway, make_client: MakeClient, tmp_path: Path
) -> None:
    """A missing folder below a root is 422 with the path and the expectation."""
    async with make_client(make_gateway(import_roots=(tmp_path,))) as client:
        response = await imported(client, tmp_path / "lgeal")
    detail = problem(response, 422, "nothing_to_import")["detail"]
    assert str(tmp_path / "lgeal") in detail
    assert "adapter_config.json" in detail


async def test_recent_imports_are_listed(
    client_of: ClientOf, registry: Registry, private: str
) -> None:
    """Versions come newest first with their findings, refusals with their problems, as visible."""
    registry.imports.remember(
        "hf:acme/x@0#", "team/x", "0" * 64,
        digest=None, problems=["A001 config-missing"], actor="ada",
    )  # fmt: skip
    reader, stranger = await client_of("read", "team"), await client_of("read", "other")
    for client, first in ((stranger, f"{private}@1"), (reader, None)):
        newest = items(await client.get("/registry/imports"))[0]
        assert (first is None) != (first == newest["reference"])
        assert {"source", "digest", "status", "findings", "at", "by"} <= set(newest)
    asked = {"outcome": "refused"}
    (refused,) = items(await reader.get("/registry/imports", params=asked))
    assert ("team/x", None, ["A001 config-missing"], "ada") == (
        refused["name"], refused["reference"], refused["problems"], refused["by"],
    )  # fmt: skip
    assert [] == items(await stranger.get("/registry/imports", params=asked))
    for wrong in ({"outcome": "odd"}, {"cursor": "odd"}, {"limit": "0"}):
        assert 400 == (await reader.get("/registry/imports", params=wrong)).status_code


async def test_changes_and_evaluations_of_a_name_are_listed(
    client_of: ClientOf, private: str
) -> None:
    """Who sees a name reads its changes and its evaluations; to others it does not exist."""
    owner, stranger = await client_of("publish", "other"), await client_of("admin", "team")
    body = {"dataset": "d", "metric": "m", "value": 0.5}
    await owner.post(f"/registry/adapters/{private}/-/versions/1/evaluations", json=body)
    newest, *_ = items(await owner.get(f"/registry/adapters/{private}/-/changes"))
    assert ("evaluation.recorded", f"{private}@1") == (newest["action"], newest["subject"])
    (made,) = items(await owner.get(f"/registry/adapters/{private}/-/evaluations"))
    assert (f"{private}@1", 0.5) == (made["reference"], made["value"])
    for part in ("changes", "evaluations"):
        for kind, name in (("adapters", private), ("compositions", "zorp")):
            answer = await stranger.get(f"/registry/{kind}/{name}/-/{part}")
            problem(answer, 404, "model_not_found")
