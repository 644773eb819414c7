"""Several gateways on one PostgreSQL, each with a home of its own: n are as right as one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from merge.errors import UnsafeResult
from registry.callers import Caller, KeyLimits
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.bucket import Bucket
from registry.storage.database import Database
from registry.storage.errors import DatabaseUnavailable
from registry.storage.objects import Objects
from server.artifacts import provide
from server.engine.fake import FakeEngine, FakeResponse
from server.engine.protocol import EngineRefused
from server.gateway import Gateway
from server.home import open_registry
from server.rates import RateLimited
from tests.postgresql import Server, serve
from tests.server.conftest import BASE, MakeClient, demo_settings
from tests.server.test_api import ask
from tests.server.test_build import merges, recipe
from tests.serving import serving


class MakeGateway(Protocol):
    """Makes a gateway with a home of its own on the test's database; keywords change settings.

    With `shares_folder`, gateways and engine share folders in place of an object store.
    """

    def __call__(self, name: str, **changes: object) -> Gateway:
        """Return the gateway, whose home is called `name`."""


class SharedEngine(FakeEngine):
    """An engine of several gateways, which loads what a folder or one of the buckets has.

    `meanwhile` is done once, just before a request comes.
    """

    def __init__(self, folder: Path, buckets: Iterable[Bucket]) -> None:
        super().__init__(BASE)
        self._folder, self._buckets = folder, tuple(buckets)
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def load(self, digest: str) -> None:
        """Load files that are there."""
        in_folder = (self._folder / digest).is_dir()
        if not in_folder and not any(bucket.has(digest) for bucket in self._buckets):
            raise EngineRefused(digest, "no such adapter")
        await super().load(digest)

    @asynccontextmanager
    async def send(self, path: str, body: bytes, *, model: str) -> AsyncIterator[FakeResponse]:
        """Answer, after what another gateway does meanwhile."""
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        async with super().send(path, body, model=model) as response:
            yield response


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL for these tests."""
    with serve() as made:
        yield made


@pytest.fixture(scope="module")
def stocked(server: Server, template: Path) -> str:
    """A database that knows the demo adapters, whose files are in the template's home."""
    local, versions = open_registry(demo_settings(template))
    url = server.create()
    database = Database(url)
    database.upgrade()
    registry, base = Registry(database, versions), local.bases.get(BASE)
    registry.bases.add(BASE, shapes=base.shapes, architecture=base.architecture)
    for name in ("zorp", "blim", "tref"):
        digest = local.catalogue.adapter(name).digest
        registry.adapters.register(versions.path(digest), name=name, base=BASE, alias="prod")
    database.close()
    return url


@pytest.fixture
def make_gateway(
    server: Server, stocked: str, template: Path, tmp_path: Path, shared_workers: None
) -> Iterator[MakeGateway]:
    """Makes gateways of one database, one object store and one engine, which sees `folder`."""
    url, store, blobs = server.create(stocked), f"memory://{tmp_path}", template / "blobs"
    versions, artifacts = (Bucket(Objects(store), name) for name in ("versions", "artifacts"))
    local = LocalBlobs(blobs)
    for digest in local.digests():
        versions.put(digest, local.path(digest))
    folder = tmp_path / "folder"
    engine = SharedEngine(folder, (versions, artifacts))

    def make(name: str, **changes: object) -> Gateway:
        (tmp_path / name).mkdir()
        places: dict[str, Any] = {"store": store, "engine_url": ("http://elsewhere",)}
        if changes.pop("shares_folder", False):
            (tmp_path / name / "blobs").symlink_to(blobs)
            places = {"artifacts_dir": folder}
        settings = demo_settings(tmp_path / name, database_url=url, **places, **changes)
        registry, stored = open_registry(settings)
        bases = serving(settings, engine, own_folders="store" in places)
        return Gateway(settings, registry=registry, versions=stored, bases=bases)

    yield make
    server.drop(url)


@pytest.fixture
def gateways(make_gateway: MakeGateway) -> tuple[Gateway, Gateway]:
    """Two gateways of one database."""
    return make_gateway("a"), make_gateway("b")


async def test_a_composition_that_all_are_asked_for_is_merged_once(
    gateways: tuple[Gateway, Gateway], make_client: MakeClient
) -> None:
    """Ten requests for one new composition on each of two gateways are one merge, which counts
    once for who asked."""
    a, b = gateways
    _, key = a.registry.access.keys.create("chat", role="chat")
    async with make_client(a) as one, make_client(b) as two:
        for client in (one, two):
            client.headers["authorization"] = f"Bearer {key}"
        answers = await asyncio.gather(*(ask(c, "cat(zorp, blim)") for c in [one, two] * 10))
    assert {200} == {answer.status_code for answer in answers}
    assert 1 == len({answer.headers["x-weft-artifact"] for answer in answers})
    assert 1 == merges(a) + merges(b)
    for gateway in gateways:
        await gateway.meter.flush()
    (usage,) = a.registry.access.usage.page().items
    assert (20, 1) == (usage.requests, usage.compositions)


async def test_a_merge_elsewhere_takes_no_worker_here(gateways: tuple[Gateway, Gateway]) -> None:
    """While a gateway waits for the merge of another, it merges other recipes; when the other
    gateway dies, it merges that recipe, too."""
    a, b = gateways
    asked = recipe(b)
    assert a.registry.locks.take(asked.digest())
    waiting = asyncio.create_task(b.builder.build(asked))
    await b.builder.build(recipe(b, "cat(zorp, tref)"))
    assert (1, False) == (merges(b), waiting.done())
    a.registry.locks.close()  # as the end of its process does
    assert await waiting in b.artifacts.digests()
    assert 2 == merges(b)


async def test_patience_with_another_gateway_ends(
    gateways: tuple[Gateway, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that has waited for as long as a merge may take merges by itself."""
    a, b = gateways
    asked = recipe(b)
    assert a.registry.locks.take(asked.digest())
    monkeypatch.setattr(b.builder._flights, "_patience", 0.05)
    assert await b.builder.build(asked) in b.artifacts.digests()
    assert not b.registry.locks.take(asked.digest())


async def test_a_request_that_leaves_waits_no_longer(gateways: tuple[Gateway, Gateway]) -> None:
    """Nobody waits for another gateway's merge once no client does; no lock is kept."""
    a, b = gateways
    asked = recipe(b)
    assert a.registry.locks.take(asked.digest())
    waiting = asyncio.create_task(b.builder.build(asked))
    await asyncio.sleep(0.1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    a.registry.locks.release(asked.digest())
    await asyncio.sleep(0.1)
    assert a.registry.locks.take(asked.digest())
    assert 0 == merges(b)


async def test_a_merge_that_fails_is_not_waited_for_again(
    gateways: tuple[Gateway, Gateway],
) -> None:
    """A recipe that cannot be merged is refused by every gateway, with the same error."""
    asked = [gateway.builder.build(recipe(gateway, "cat(1e4*zorp)")) for gateway in gateways]
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert [UnsafeResult] * 2 == [type(error) for error in errors]
    assert 1 == len({str(error) for error in errors})


async def test_a_limit_is_shared_by_gateways_that_are_idle(make_gateway: MakeGateway) -> None:
    """What a key used through one gateway holds two seconds later on another that has not seen it.
    What is much of a limit is written at once."""
    caller = Caller("ci", "chat", "team", limits=KeyLimits(requests=8))
    a, b = make_gateway("a"), make_gateway("b")
    running = [asyncio.create_task(gateway.meter.run()) for gateway in (a, b)]
    try:
        await asyncio.sleep(0.3)  # the first exchange
        for _ in range(2):
            with a.meter.request(caller, tokens=0):
                await asyncio.sleep(0)
        await asyncio.sleep(0.5)
        assert 2 == a.registry.access.usage.page().items[0].requests
        await asyncio.sleep(1.7)
        for _ in range(6):
            with b.meter.request(caller, tokens=0):
                pass
        with pytest.raises(RateLimited), b.meter.request(caller, tokens=0):
            pass
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def test_a_change_on_one_is_seen_by_the_others(
    gateways: tuple[Gateway, Gateway], make_client: MakeClient
) -> None:
    """An alias that moves on A is followed by B's next request, a quarantine, a release and a
    policy, too. A key that is made on A works on B at once; a revoked one ends within two
    seconds."""
    registry = gateways[0].registry
    _, admin_key = registry.access.keys.create("admin", role="admin", all_namespaces=True)
    async with make_client(gateways[0]) as a, make_client(gateways[1]) as b:
        a.headers["authorization"] = f"Bearer {admin_key}"
        key = (await a.post("/registry/keys", json={"name": "chat", "role": "chat"})).json()["key"]
        b.headers["authorization"] = f"Bearer {key}"
        blim = registry.catalogue.adapter("blim").digest
        folder = gateways[0].versions.path(blim)
        registry.adapters.register(folder, name="zorp", base=BASE)
        assert 200 == (await ask(b, "zorp@prod")).status_code
        moved = await a.put("/registry/adapters/zorp/-/aliases/prod", json={"version": 2})
        assert moved.status_code == 200
        assert blim == (await ask(b, "zorp@prod")).headers["x-weft-artifact"]
        status = "/registry/adapters/zorp/-/versions/2/status"
        await a.put(status, json={"status": "quarantined", "reason": "harm"})
        assert 409 == (await ask(b, "zorp@prod")).status_code
        await a.put(status, json={"status": "admitted"})
        assert 200 == (await ask(b, "zorp@prod")).status_code
        assert 200 == (await ask(b, "cat(zorp, tref)")).status_code
        registry.access.policies.add("deny", ["adapter:tref"], reason="not yet")
        assert 403 == (await ask(b, "cat(zorp, tref)")).status_code
        assert 204 == (await a.delete("/registry/keys/chat")).status_code
        await asyncio.sleep(1.1)
        assert 401 == (await ask(b, "blim")).status_code


async def test_each_machine_evicts_its_own_copies(
    gateways: tuple[Gateway, Gateway], make_client: MakeClient
) -> None:
    """A gateway over its budget removes its copies; engine and other gateways keep theirs. What a
    client wants removed goes from the engine too."""
    a, b = gateways
    (engine,) = a.bases.default.fleet.engines
    async with make_client(a) as one, make_client(b) as two:
        digest = (await ask(one, "cat(zorp, blim)")).headers["x-weft-artifact"]
        assert digest == (await ask(two, "cat(zorp, blim)")).headers["x-weft-artifact"]
        assert 0 < await a.evictor.shrink(budget_bytes=0)
        assert (frozenset(), {digest}) == (a.artifacts.digests(), {*b.artifacts.digests()})
        assert digest in (await engine.adapters()).resident
        assert digest == (await ask(one, "cat(zorp, blim)")).headers["x-weft-artifact"]
        await a.evictor.remove(digest)
        assert digest not in (await engine.adapters()).known
    assert 1 == merges(a) + merges(b)


async def test_a_replaced_artifact_is_served_by_all(
    gateways: tuple[Gateway, Gateway], make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another gateway has had to replace the artifact of a recipe, this one serves the new one
    within two seconds, and the old one while the database is away."""
    a, b = gateways
    assert 2.0 == provide._REMEMBERED_SECONDS
    monkeypatch.setattr(provide, "_REMEMBERED_SECONDS", 0.0)
    asked = recipe(a).digest()
    old, new = [await b.builder.build(recipe(b, text)) for text in ("cat(zorp, blim)", "cat(zorp)")]
    async with make_client(a) as client:
        assert old == (await ask(client, "cat(zorp, blim)")).headers["x-weft-artifact"]
        b.registry.compositions.record_artifact(
            asked, new, bytes=1, seconds=0.1, report={}, replacing=old
        )
        assert new == (await ask(client, "cat(zorp, blim)")).headers["x-weft-artifact"]

        def away(_: str) -> str | None:
            raise DatabaseUnavailable("away")

        monkeypatch.setattr(a.registry.compositions, "artifact_of", away)
        assert new == (await ask(client, "cat(zorp, blim)")).headers["x-weft-artifact"]


@pytest.mark.parametrize("shares_folder", [False, True])
async def test_what_another_gateway_removes_is_made_again(
    make_gateway: MakeGateway, make_client: MakeClient, *, shares_folder: bool
) -> None:
    """A request whose adapter another gateway removes, from the engine, the disk and the bucket,
    after this one has loaded it and before the engine has the request, is answered."""
    a, b = (make_gateway(name, shares_folder=shares_folder) for name in "ab")
    (engine,) = b.bases.default.fleet.engines
    assert isinstance(engine, SharedEngine)
    async with make_client(b) as client:
        for model in ("zorp", "cat(zorp, blim)"):
            digest = (await ask(client, model)).headers["x-weft-artifact"]
            engine.meanwhile = partial(a.evictor.remove, digest)
            answer = await ask(client, model)
            assert 200 == answer.status_code, answer.text
            assert digest == answer.headers["x-weft-artifact"]
