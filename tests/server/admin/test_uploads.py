"""A slow upload delays no other request."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from httpx import AsyncClient

from registry.storage.blobs import LocalBlobs
from server.admin import imports
from server.cli.client import tar_of
from tests.server.admin.conftest import problem

TAR = {"content-type": "application/x-tar"}


async def slowly(folder: Path, go_on: asyncio.Event) -> AsyncIterator[bytes]:
    """Send the first bytes of a folder's archive, and the rest after an event."""
    for number, chunk in enumerate(tar_of(folder)):
        if number == 1:
            await go_on.wait()
        yield chunk


async def test_slow_uploads_hold_up_no_other_request(
    admin: AsyncClient, hidden_folder: Path
) -> None:
    """Keys and lists are answered while there are more uploads than threads."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    go_on = asyncio.Event()
    uploads = [
        asyncio.create_task(
            admin.post(
                f"/registry/adapters/slow{number}/-/versions", headers=TAR,
                content=slowly(hidden_folder, go_on),
            )
        )
        for number in range(3)
    ]  # fmt: skip
    for _ in range(3):
        async with asyncio.timeout(30):
            assert 200 == (await admin.get("/registry/adapters")).status_code
    assert not any(upload.done() for upload in uploads)
    go_on.set()
    assert [201] * 3 == [(await upload).status_code for upload in uploads]


async def test_an_upload_that_falls_silent_is_given_up(
    admin: AsyncClient, hidden_folder: Path, versions: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stalled upload is refused and leaves no files."""
    monkeypatch.setattr(imports, "_SILENCE_SECONDS", 0.05)
    before = versions.digests()
    answer = await admin.post(
        "/registry/adapters/silent/-/versions", headers=TAR,
        content=slowly(hidden_folder, asyncio.Event()),
    )  # fmt: skip
    assert "no data arrived for 0.05 s" in problem(answer, 400, "invalid_upload")["detail"]
    assert before == versions.digests()
    assert 0 == versions.sweep(older_than_seconds=-1)
