"""A gateway whose disk is full or read-only, or whose database is locked by another process.

Each route that writes is asked; what it cannot do, it says, and does once the disk can be written.
"""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from httpx import AsyncClient, Response

from registry.service import Registry
from registry.storage import database as database_module
from registry.storage.blobs import LocalBlobs
from server.cli.client import tar_of
from server.gateway import Gateway
from tests.adapters import make_adapter
from tests.server.asgi import CHAT
from tests.server.conftest import BASE, MakeClient, MakeGateway
from tests.server.disks import SmallDisk, read_only
from tests.server.jobs.conftest import examples

MIB = 2**20
ROOMS = (0, 20_000, 600_000)
FORM = "multipart/form-data; boundary=edge"
# What a client is told when the disk or the database cannot be written.
TOLD = {"storage_full", "storage_failed", "storage_broken", "database_unavailable"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 16 MiB."""
    disk = SmallDisk(tmp_path / "disk", 16 * MIB)
    yield disk
    disk.close()


@pytest.fixture
def home(template: Path, disk: SmallDisk) -> Path:
    """A home on that disk."""
    return Path(copytree(template, disk.folder / "home"))


@pytest.fixture
def guarded(make_gateway: MakeGateway) -> Gateway:
    """A gateway that needs a key, so that keys can be made."""
    return make_gateway(api_keys="secret")


@pytest.fixture
async def client(guarded: Gateway, make_client: MakeClient) -> AsyncIterator[AsyncClient]:
    """A client with its key."""
    async with make_client(guarded) as made:
        made.headers["authorization"] = "Bearer secret"
        yield made


@pytest.fixture
def adapter_tar(registry: Registry, tmp_path: Path) -> bytes:
    """An upload that is new to the registry."""
    module = "model.layers.0.self_attn.q_proj"
    d_out, d_in = registry.bases.get(BASE).shapes[module]
    folder = make_adapter(tmp_path / "new", modules={module: (d_in, d_out)}, base=BASE)
    return b"".join(tar_of(folder))


def writes(number: int, adapter_tar: bytes) -> Mapping[str, Mapping[str, Any]]:
    """Return a request for each kind of write; those of another number collide with none."""
    zorp, name = "/registry/adapters/zorp/-", f"new-{number}"
    form = (
        '--edge\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--edge\r\n'
        'Content-Disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n'
        f"{examples(1000)}\r\n--edge--\r\n"
    )
    return {
        "staging": {"url": CHAT, "json": {"model": ("zorp", "blim", "frob", "tref")[number]}},
        "merge": {"url": CHAT, "json": {"model": f"cat(0.{number + 1}*zorp, blim)"}},
        "upload": {
            "url": f"/registry/adapters/{name}/-/versions", "content": adapter_tar,
            "headers": {"content-type": "application/x-tar"},
        },
        "composition": {
            "url": f"/registry/compositions/mix-{number}/-/versions",
            "json": {"expression": f"cat(0.{number + 1}*zorp, plov)"},
        },
        "key": {"url": "/registry/keys", "json": {"name": name, "role": "read"}},
        "alias": {
            "method": "PUT", "url": f"{zorp}/aliases/{name}", "json": {"version": 1},
        },
        "tags": {"method": "PATCH", "url": f"{zorp}/tags", "json": {"add": [name]}},
        "examples": {
            "method": "PUT", "url": f"{zorp}/examples",
            "json": {"examples": [f"{n} of {number}: " + "x" * 900 for n in range(90)]},
        },
        "evaluation": {
            "url": f"{zorp}/versions/1/evaluations",
            "json": {"dataset": name, "metric": "m", "value": 0.5},
        },
        "file": {
            "url": "/v1/files", "content": form.encode(), "headers": {"content-type": FORM},
        },
        "base": {"url": "/registry/bases", "json": {"name": BASE, "aliases": [f"acme/{name}"]}},
    }  # fmt: skip


async def send(client: AsyncClient, request: Mapping[str, Any]) -> Response:
    """Send a request; its method is POST unless it says otherwise."""
    return await client.request(**({"method": "POST"} | dict(request)))


def code_of(response: Response) -> str:
    """Return the error's code in either format."""
    body = response.json()
    return str(body.get("code") or body["error"]["code"])


@pytest.mark.parametrize("room_bytes", ROOMS)
async def test_a_full_disk_is_told_by_every_route_that_writes(
    client: AsyncClient, guarded: Gateway, disk: SmallDisk, adapter_tar: bytes, room_bytes: int
) -> None:
    """Wherever the space ends, a write is done or refused as the disk's or the database's fault;
    nothing of a refused one is left; and it is done once there is space."""
    number = ROOMS.index(room_bytes)
    requests, refused = writes(number, adapter_tar), []
    with disk.full(room_bytes):
        for name, request in requests.items():
            response = await send(client, request)
            if not response.is_success:
                assert response.status_code in (503, 507), (name, response.text)
                assert code_of(response) in TOLD, (name, response.text)
                refused.append(name)
        assert (await client.get("/registry/adapters")).is_success
    assert refused or room_bytes
    for store in (LocalBlobs(guarded.settings.blobs), guarded.artifacts):
        assert 0 == store.sweep(older_than_seconds=-1)
        for digest in store.digests():
            store.verify(digest)
    for name in refused:
        response = await send(client, requests[name])
        assert response.is_success, (name, response.text)


async def test_a_read_only_disk_is_told_by_every_route_that_writes(
    guarded: Gateway, make_client: MakeClient, adapter_tar: bytes
) -> None:
    """Where files cannot be written, a write is done (in the database) or refused as the disk's
    fault; a write that was refused is done once it can be."""
    requests, refused = writes(0, adapter_tar), []
    async with make_client(guarded) as client:
        client.headers["authorization"] = "Bearer secret"
        # The threads of the gateway's pools begin inside, so that permissions apply to them, too.
        with read_only(guarded.settings.home):
            for name, request in requests.items():
                response = await send(client, request)
                if not response.is_success:
                    assert response.status_code in (503, 507), (name, response.text)
                    assert code_of(response) in TOLD, (name, response.text)
                    refused.append(name)
        assert {"staging", "upload", "file"} <= set(refused)
        for name in refused:
            response = await send(client, requests[name])
            assert response.is_success, (name, response.text)


async def test_a_database_locked_by_another_process_stops_no_chat(
    client: AsyncClient, guarded: Gateway, adapter_tar: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process holds SQLite's write lock, writes are 503 with Retry-After after the
    busy timeout, and chats with adapters, the base and finished merges are answered."""
    merged = writes(1, adapter_tar)["merge"]
    assert (await send(client, merged)).is_success
    guarded.registry.versions._database.close()
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_SECONDS", 0.2)
    with write_locked(guarded.settings.database.removeprefix("sqlite:///")):
        for model in (BASE, "zorp", "zorp@prod", merged["json"]["model"]):
            response = await client.post(CHAT, json={"model": model})
            assert response.is_success, (model, response.text)
        for name, request in writes(0, adapter_tar).items():
            response = await send(client, request)
            if name == "staging":
                assert response.is_success
                continue
            assert (503, "database_unavailable") == (response.status_code, code_of(response)), name
            assert int(response.headers["retry-after"]) > 0
    for name, request in writes(0, adapter_tar).items():
        response = await send(client, request)
        assert response.is_success, (name, response.text)


@contextmanager
def write_locked(path: str) -> Iterator[None]:
    """Hold SQLite's write lock in another process."""
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert b"locked\n" == other.stdout.readline()
        yield
        assert other.stdin is not None
        other.stdin.close()
