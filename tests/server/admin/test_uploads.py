"""A slow upload delays no other request."""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from httpx import AsyncClient

from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from server.admin import receiving
from server.admission import AdmissionWorkers, CheckLimits
from server.cli.client import tar_of
from tests.server.admin.conftest import ClientOf, problem
from tests.server.obedient import burn

TAR = {"content-type": "application/x-tar"}


async def slowly(folder: Path, go_on: asyncio.Event) -> AsyncIterator[bytes]:
    """Send the first bytes of a folder's archive, and the rest after an event."""
    for number, chunk in enumerate(tar_of(folder)):
        if number == 1:
            await go_on.wait()
        yield chunk


async def whole(folder: Path) -> AsyncIterator[bytes]:
    """Send a folder's archive."""
    for chunk in tar_of(folder):
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
    monkeypatch.setattr(receiving, "SILENCE_SECONDS", 0.05)
    before = versions.digests()
    answer = await admin.post(
        "/registry/adapters/silent/-/versions", headers=TAR,
        content=slowly(hidden_folder, asyncio.Event()),
    )  # fmt: skip
    assert "no data arrived for 0.05 s" in problem(answer, 400, "invalid_upload")["detail"]
    assert before == versions.digests()
    assert 0 == versions.sweep(older_than_seconds=-1)


async def test_an_upload_that_trickles_is_given_up(
    admin: AsyncClient, hidden_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that stays below the slowest rate is refused, however regularly it sends."""
    monkeypatch.setattr(receiving, "LAG_SECONDS", 0.2)

    async def trickle() -> AsyncIterator[bytes]:
        for byte in b"".join(tar_of(hidden_folder))[:1000]:
            yield bytes([byte])
            await asyncio.sleep(0.01)

    answer = await admin.post("/registry/adapters/slow/-/versions", headers=TAR, content=trickle())
    assert "less than 262144 bytes a second" in problem(answer, 400, "invalid_upload")["detail"]


async def test_no_namespace_takes_all_uploads(client_of: ClientOf, hidden_folder: Path) -> None:
    """Of eight uploads that do not end, three are taken; another namespace's upload is answered."""
    greedy, other = await client_of("publish", "greedy"), await client_of("publish", "other")
    go_on = asyncio.Event()
    uploads = [
        asyncio.create_task(
            greedy.post(
                f"/registry/adapters/greedy/a{number}/-/versions", headers=TAR,
                content=slowly(hidden_folder, go_on),
            )
        )
        for number in range(8)
    ]  # fmt: skip
    async with asyncio.timeout(60):
        while len(done := [upload for upload in uploads if upload.done()]) < 5:
            await asyncio.sleep(0.01)
    answers = [upload.result() for upload in done]
    assert 5 == len(answers)
    for answer in answers:
        assert "greedy/ has 3 uploads" in problem(answer, 429, "too_many_uploads")["detail"]
        assert "10" == answer.headers["retry-after"]
    async with asyncio.timeout(60):
        answer = await other.post(
            "/registry/adapters/other/a/-/versions", headers=TAR,
            content=whole(hidden_folder),
        )  # fmt: skip
    assert 201 == answer.status_code
    go_on.set()
    taken = [await upload for upload in uploads if upload not in done]
    assert [201] * 3 == [answer.status_code for answer in taken]


async def test_an_admission_that_never_ends_holds_up_nobody(
    admin: AsyncClient, registry: Registry, hidden_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Health is answered at once while it burns CPU; then the upload is refused with a sentence."""
    limits = CheckLimits(cpu_seconds=1, cpu_seconds_per_gib=0)
    workers = AdmissionWorkers(burn, limits)
    monkeypatch.setattr(registry.adapters, "_admit", workers)
    upload = asyncio.create_task(
        admin.post("/registry/adapters/slow/-/versions", headers=TAR, content=whole(hidden_folder))
    )
    slowest, count = 0.0, 0
    while not upload.done():
        began = time.perf_counter()
        assert 200 == (await admin.get("/health")).status_code
        slowest, count = max(slowest, time.perf_counter() - began), count + 1
        await asyncio.sleep(0.02)
    assert count > 10
    assert slowest < 1
    assert "could not be checked: " in problem(await upload, 422, "check_ended")["detail"]
