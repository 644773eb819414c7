"""A database that is gone, hangs or is locked: recent answers are given again, the rest is 503."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from httpx import AsyncClient, Response
from sqlalchemy import make_url, text

from registry.service import Registry
from registry.storage import database as database_module
from registry.storage import patient, silence, statement_limit
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database
from registry.storage.errors import DatabaseSilent, DatabaseUnreachable
from registry.types import Base
from server import recent
from server.engine.fake import FakeEngine
from server.gateway import Gateway
from server.home import open_registry
from tests.postgresql import Server, serve
from tests.server.asgi import CHAT
from tests.server.conftest import BASE, MakeClient, MakeSettings
from tests.server.test_api import ask, told
from tests.serving import serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL of its own, because these tests stop it."""
    with serve() as made:
        yield made


def unavailable(response: Response) -> bool:
    """Return whether an answer is 503 with Retry-After, for the database."""
    assert response.status_code == 503, response.text
    assert int(response.headers["retry-after"]) > 0
    return bool(told(response)["code"] == "database_unavailable")


def database_at(server: Server, *, seconds: float | None) -> Database:
    """Return a new database with this limit of statements, and the shortest one of connecting."""
    return Database(server.create() + "&connect_timeout=2", statement_seconds=seconds)


@pytest.fixture
async def on_postgresql(
    server: Server, make_settings: MakeSettings, versions: LocalBlobs, base: Base,
    engine: FakeEngine, make_client: MakeClient, shared_workers: None,
) -> AsyncIterator[AsyncClient]:  # fmt: skip
    """A client, with a key for team/, of a gateway on PostgreSQL that has team/zorp and blim."""
    database = database_at(server, seconds=0.5)
    database.upgrade()
    registry = Registry(database, versions)
    registry.bases.add(BASE, shapes=base.shapes, architecture=base.architecture)
    local, _ = open_registry(make_settings())
    for name, source in (("team/zorp", "zorp"), ("blim", "blim")):
        digest = local.catalogue.adapter(source).digest
        registry.adapters.register(versions.path(digest), name=name, base=BASE)
    _, key = registry.access.keys.create("team-chat", role="chat", namespace="team")
    settings = make_settings()
    gateway = Gateway(
        settings, registry=registry, versions=versions, bases=serving(settings, engine)
    )
    async with make_client(gateway) as client:
        client.headers["authorization"] = f"Bearer {key}"
        yield client
    database.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what a silent server may take; connecting to one takes psycopg two seconds."""
    monkeypatch.setattr(statement_limit, "_GRACE_SECONDS", 0.3)
    monkeypatch.setattr(patient, "PING_SECONDS", 0.3)
    monkeypatch.setattr(patient, "ASK_SECONDS", 0.3)
    monkeypatch.setattr(silence, "ASK_AGAIN_SECONDS", 0.1)


async def test_an_outage_of_half_a_minute_is_bridged(
    on_postgresql: AsyncClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With PostgreSQL gone, references that a key used lately answer on; others, and all of them
    half a minute later, are 503 with Retry-After; when it is back, everything answers by itself."""
    client = on_postgresql
    used = ("team/zorp", "lego(team/zorp, blim)")
    assert [200, 200] == [(await ask(client, model)).status_code for model in used]
    await asyncio.to_thread(server.stop)
    try:
        assert [200, 200] == [(await ask(client, model)).status_code for model in used]
        assert unavailable(await ask(client, "blim"))
        unknown = {"authorization": f"Bearer weft_{'x' * 43}"}  # another gateway may have made it
        stranger = await client.post(CHAT, json={"model": "blim"}, headers=unknown)
        assert unavailable(stranger)
        monkeypatch.setattr(recent, "BRIDGED_SECONDS", 0.0)
        monkeypatch.setattr("server.auth._REMEMBERED_SECONDS", 0.0)
        await asyncio.sleep(1.1)  # the key is remembered for a second
        assert unavailable(await ask(client, "team/zorp"))
    finally:
        await asyncio.to_thread(server.start)
    await asyncio.sleep(1.1)  # the database is asked once a second
    assert 200 == (await ask(client, "blim")).status_code


async def test_a_server_that_hangs_is_bridged_too(
    on_postgresql: AsyncClient, server: Server, impatient: None
) -> None:
    """While PostgreSQL hangs, connected and silent, requests are answered as when it is gone: the
    first after a few seconds, the others at once; when it goes on, everything answers by itself."""
    client = on_postgresql
    assert 200 == (await ask(client, "team/zorp")).status_code
    await asyncio.sleep(1.1)  # the key is remembered for a second
    with server.hung():
        began = time.monotonic()
        models = ("team/zorp", "blim")
        used, other = await asyncio.gather(*(ask(client, model) for model in models))
        assert 200 == used.status_code
        assert unavailable(other)
        assert time.monotonic() - began < 5
        began = time.monotonic()
        answers = await asyncio.gather(*(ask(client, models[n % 2]) for n in range(40)))
        assert 40 * [True] == [one.status_code == 200 or unavailable(one) for one in answers]
        assert 200 == (await client.get("/health")).status_code
        assert time.monotonic() - began < 2
    await asyncio.sleep(1.5)
    assert 200 == (await ask(client, "blim")).status_code


@pytest.mark.parametrize("seconds", [0.3, None])
def test_a_transaction_on_a_server_that_hangs_ends(
    server: Server, impatient: None, seconds: float | None
) -> None:
    """It ends soon after the limit of statements; without one, when the server greets nobody."""
    database = database_at(server, seconds=seconds)
    with ExitStack() as stack:
        began = time.monotonic()
        reading = database.read()
        with pytest.raises(DatabaseSilent, match="does not answer"), reading as session:  # noqa: PT012
            assert 1 == session.scalar(text("SELECT 1"))
            stack.enter_context(server.hung())
            session.scalar(text("SELECT 1"))
        assert time.monotonic() - began < 4
        with pytest.raises(DatabaseSilent), database.read():
            pass  # known to be silent: it is not even asked
    time.sleep(0.5)
    with database.read() as session:
        assert 1 == session.scalar(text("SELECT 1"))
    database.close()


def test_a_statement_without_a_limit_may_take_any_time(server: Server, impatient: None) -> None:
    """A server that works silently is asked, answers, and is waited for."""
    database = Database(server.create())
    with database.read() as session:
        assert "" == session.scalar(text("SELECT pg_sleep(1)::text"))
    database.close()


def test_a_pool_recovers_from_a_restart(server: Server) -> None:
    """After a restart the first call succeeds: dead connections are noticed before their use."""
    database = Database(server.create())
    database.upgrade()
    server.stop()
    with pytest.raises(DatabaseUnreachable):
        database.check()
    server.start()
    assert database.check()
    database.close()


def test_a_connection_that_is_cut_does_not_wait_for_long() -> None:
    """Connecting, and silence of a connection, have limits; the URL may state others."""
    url = make_url("postgresql+psycopg://host/db?connect_timeout=60")
    arguments = database_module._connect_args(url)
    assert "connect_timeout" not in arguments
    assert 10_000 == arguments["tcp_user_timeout"]
    assert {} == database_module._connect_args(make_url("sqlite:///weft.db"))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold SQLite's write lock, as another process does."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


async def test_a_locked_database_is_503_and_serving_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, make_settings: MakeSettings, engine: FakeEngine,
    make_client: MakeClient, shared_workers: None,
) -> None:  # fmt: skip
    """While another process holds SQLite's lock, what needs no write answers, and every write is
    503 with Retry-After."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_SECONDS", 0)
    settings = make_settings()
    registry, versions = open_registry(settings)
    gateway = Gateway(
        settings, registry=registry, versions=versions, bases=serving(settings, engine)
    )
    writes = (
        ("PUT", "/registry/adapters/zorp/-/aliases/next", {"version": 1}),
        ("PUT", "/registry/adapters/zorp/-/versions/1/status", {"status": "admitted"}),
        ("PUT", "/registry/adapters/zorp/-/examples", {"examples": ["a"]}),
        ("PATCH", "/registry/adapters/zorp/-/tags", {"add": ["a"]}),
        ("POST", "/registry/keys", {"name": "new", "role": "chat"}),
        ("POST", "/registry/compositions/mix/-/versions", {"expression": "cat(zorp, blim)"}),
        ("DELETE", "/registry/adapters/dwen/-/versions/1", None),
        ("POST", "/v1/chat/completions", {"model": "cat(zorp, dwen)", "messages": []}),
    )  # fmt: skip
    async with make_client(gateway) as client:
        assert 200 == (await ask(client, "zorp")).status_code
        with locked(home / "weft.db"):
            assert 200 == (await ask(client, "blim@prod")).status_code
            for method, path, body in writes:
                response = await client.request(method, path, json=body)
                assert (503, path) == (response.status_code, path), response.text
                assert "retry-after" in response.headers
        assert 200 == (await ask(client, "cat(zorp, dwen)")).status_code
