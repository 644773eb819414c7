"""The process beside an engine: it brings adapters from the object store and keeps to a budget."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from merge.peft_format import WEIGHTS_NAME, digest_folder
from registry.storage.blobs import LocalBlobs
from registry.storage.bucket import Bucket
from registry.storage.objects import Objects
from server.engine.fake import FakeEngine
from server.engine.fetching import NodeUnavailable
from server.engine.pinned import AdapterRejected, pin
from server.node.cache import NodeCache
from server.node.serve import NodeUnusable, node_app, serve_node
from tests.adapters import make_adapter
from tests.server.conftest import BASE, MakeSettings

ABSENT = "0" * 64
KEY = "engine-key"


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    """An object store in a folder."""
    return Objects(f"file://{tmp_path / 'store'}")


@pytest.fixture
def digests(objects: Objects, tmp_path: Path) -> list[str]:
    """Three adapters in the store: two merged ones, and one as it was registered."""
    stored = []
    for number, prefix in enumerate(("artifacts", "artifacts", "versions")):
        folder = make_adapter(tmp_path / f"made-{number}", seed=number)
        digest = digest_folder(folder)
        Bucket(objects, prefix).put(digest, folder)
        stored.append(digest)
    return stored


@pytest.fixture
def folder(tmp_path: Path) -> LocalBlobs:
    """The folder from which the engine loads."""
    return LocalBlobs(tmp_path / "artifacts")


@pytest.fixture
def engine() -> FakeEngine:
    """The engine of the machine."""
    return FakeEngine(BASE)


@pytest.fixture
def cache(folder: LocalBlobs, objects: Objects, engine: FakeEngine) -> NodeCache:
    """A node with room for two of the three adapters."""
    buckets = (Bucket(objects, "artifacts"), Bucket(objects, "versions"))
    return NodeCache(folder, buckets, engine, budget_bytes=60_000)


@pytest.fixture
async def client(cache: NodeCache) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the engine's key."""
    transport = httpx.ASGITransport(node_app(cache, KEY))
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://node", headers=headers
    ) as made:
        yield made


async def test_an_adapter_is_brought_once(
    client: httpx.AsyncClient, folder: LocalBlobs, digests: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Merged and registered adapters come from the store, verified; many who ask share one
    download."""
    downloads, fetch = [], Bucket.fetch

    def counted(bucket: Bucket, digest: str, into: LocalBlobs) -> Path:
        got = fetch(bucket, digest, into)
        downloads.append(digest)
        return got

    monkeypatch.setattr(Bucket, "fetch", counted)
    asking = [client.put(f"/artifacts/{digest}") for digest in digests for _ in range(5)]
    assert {200} == {answer.status_code for answer in await asyncio.gather(*asking)}
    assert sorted(digests) == sorted(downloads)
    for digest in digests:
        folder.verify(digest)


async def test_what_cannot_be_brought_is_told(
    client: httpx.AsyncClient, folder: LocalBlobs, objects: Objects, digests: list[str]
) -> None:
    """An unknown digest is 404, other bytes are 422, no digest is 400, a wrong key is 401; the
    folder stays as it is."""
    objects.put(f"artifacts/{digests[0]}/{WEIGHTS_NAME}", b"other bytes")
    for digest, status in ((ABSENT, 404), (digests[0], 422), ("..", 404), ("x", 400)):
        assert status == (await client.put(f"/artifacts/{digest}")).status_code, digest
    wrong = await client.put(f"/artifacts/{digests[1]}", headers={"authorization": "Bearer no"})
    assert 401 == wrong.status_code
    assert frozenset() == folder.digests()


async def test_the_budget_is_kept(
    cache: NodeCache, folder: LocalBlobs, engine: FakeEngine, digests: list[str]
) -> None:
    """Over the budget adapters go that the engine does not have in memory, then those that it has;
    what it uses stays, and so does what was just fetched."""
    for age, digest in enumerate(digests):
        await cache.fetch(digest)
        os.utime(folder.path(digest), (0, time.time() - 1000 + age))
    size = folder.size(digests[0])
    cache._budget_bytes = 2 * size
    await engine.load(digests[0])
    assert size == await cache.shrink()
    assert {digests[0], digests[2]} == folder.digests()

    cache._budget_bytes = 0
    engine.running[digests[0]] = 1
    assert size == await cache.shrink()
    assert {digests[0]} == folder.digests()
    engine.running.clear()
    engine.up = False
    assert 0 == await cache.shrink()
    engine.up = True
    os.utime(folder.path(digests[0]))
    assert 0 == await cache.shrink()
    os.utime(folder.path(digests[0]), (0, 0))
    assert size == await cache.shrink()


@pytest.fixture
def node(cache: NodeCache) -> Iterator[str]:
    """The URL of a node over real HTTP."""
    server = uvicorn.Server(
        uvicorn.Config(node_app(cache, KEY), host="127.0.0.1", port=0, log_config=None)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_the_plugin_gets_missing_adapters_from_the_node(
    node: str, folder: LocalBlobs, digests: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """An engine whose folder lacks an adapter asks its node, and loads what comes; what the store
    does not have is rejected, and a node that is away is told as such."""
    monkeypatch.setenv("WEFT_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    with pytest.raises(AdapterRejected, match="cannot be read"):
        pin(digests[0])
    monkeypatch.setenv("WEFT_NODE_URL", node)
    assert digests[0] == digest_folder(pin(digests[0]))
    assert {digests[0]} == folder.digests()
    with pytest.raises(AdapterRejected, match=ABSENT):
        pin(ABSENT)
    monkeypatch.setenv("VLLM_API_KEY", "other")
    with pytest.raises(NodeUnavailable, match="401"):
        pin(digests[1])
    monkeypatch.setenv("WEFT_NODE_URL", "http://127.0.0.1:9")
    with pytest.raises(NodeUnavailable, match="does not answer"):
        pin(digests[1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [({}, "WEFT_STORE"), ({"store": "memory://"}, "WEFT_ENGINE_URL"),
     ({"store": "memory://", "engine_url": "http://a:1,http://b:1"}, "one engine")],
)  # fmt: skip
async def test_a_node_needs_a_store_and_one_engine(
    make_settings: MakeSettings, changes: dict[str, str], words: str
) -> None:
    """What is missing is named."""
    with pytest.raises(NodeUnusable, match=words):
        await serve_node(make_settings(**changes), 0)
