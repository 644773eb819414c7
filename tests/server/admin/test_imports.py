"""`POST /registry/imports` imports folders on the server, but only below WEFT_IMPORT_ROOTS."""

from pathlib import Path

import pytest
from httpx import AsyncClient, Response

from tests.server.admin.conftest import problem
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
