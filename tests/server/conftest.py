"""A gateway over the demo base and its adapters, on a fresh copy of one template per test.

Builds run in real worker processes, but one pool serves the whole session: starting one imports
torch. Tests of the pool itself (test_build.py) start their own.
"""

import logging
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import uvicorn
from fastapi.routing import APIRoute
from httpx import ASGITransport, AsyncClient
from typer.testing import CliRunner, Result

from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.bucket import Bucket
from registry.storage.objects import Objects
from registry.types import Base
from server.app import create_app
from server.artifacts import worker, workers
from server.cli import app
from server.cli.demo import import_demo_adapters
from server.engine import launch, process
from server.engine.fake import FakeEngine, FakeResponse
from server.gateway import Gateway
from server.home import open_registry
from server.settings import Settings
from tests.reading import read_adapter
from tests.server.launching import Stub
from tests.server.remembered_routes import remember
from tests.server.slow import SlowResponse
from tests.serving import serving
from tests.transactions import watch_transactions

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
BASE = "weft/demo-llama"


class MakeSettings(Protocol):
    """Makes settings for the demo base in the test's own home; keywords override."""

    def __call__(self, **changes: Any) -> Settings:
        """Return the settings."""


class MakeGateway(Protocol):
    """Makes a gateway on the test's registry and fake engine; keywords change settings."""

    def __call__(self, **changes: Any) -> Gateway:
        """Return the gateway."""


class MakeShared(Protocol):
    """Makes a gateway with a home of this name on the test's object store."""

    def __call__(
        self, name: str = "first", engine: FakeEngine | None = None, **changes: Any
    ) -> Gateway:
        """Return the gateway."""


class Weft(Protocol):
    """Runs a `weft` command in the test's home."""

    def __call__(self, *words: object) -> Result:
        """Return how it ended."""


class SharedPool:
    """Replaces the pool of a builder; the session's pool outlives every builder."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def submit(self, *call: Any, **kwargs: Any) -> Future[Any]:
        """Submit the call to the session's workers."""
        return self._pool.submit(*call, **kwargs)

    def shutdown(self, **_: Any) -> None:
        """Keep the session's workers running."""


@pytest.fixture(autouse=True)
def watched_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    watch_transactions(monkeypatch)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("WEFT_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def remembered_routes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(APIRoute, "__init__", remember)
        yield


@pytest.fixture(scope="session")
def session_workers() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    held, lifeline = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        1, mp_context=context, initializer=worker.prepare, initargs=(held, 2**33)
    )
    pool.submit(worker.warm).result()
    yield pool
    pool.shutdown()
    lifeline.close()


@pytest.fixture
def shared_workers(session_workers: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        workers, "ProcessPoolExecutor", lambda *_, **__: SharedPool(session_workers)
    )


def demo_settings(home: Path, **changes: Any) -> Settings:
    """Return settings of the demo base in `home`."""
    given: dict[str, Any] = {
        "home": home, "model": str(DEMO / "base"), "served_base": BASE, "dtype": "float32",
        "max_loras": 4, "max_cpu_loras": 16, "max_lora_rank": 64, "merge_threads": 1,
    }  # fmt: skip
    return Settings(**(given | changes))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose registry knows the demo base and every demo adapter as `name@prod`."""
    home = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.upper().startswith("WEFT_")]:
            patch.delenv(name)
        import_demo_adapters(demo_settings(home))
    return home


@pytest.fixture
def demo_adapters() -> Path:
    return DEMO / "adapters"


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "home"))


@pytest.fixture
def make_settings(home: Path) -> MakeSettings:
    def make(**changes: Any) -> Settings:
        return demo_settings(home, **changes)

    return make


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings()


@pytest.fixture
def opened(settings: Settings) -> tuple[Registry, LocalBlobs]:
    registry, versions = open_registry(settings)
    assert isinstance(versions, LocalBlobs)
    return registry, versions


@pytest.fixture
def registry(opened: tuple[Registry, LocalBlobs]) -> Registry:
    return opened[0]


@pytest.fixture
def versions(opened: tuple[Registry, LocalBlobs]) -> LocalBlobs:
    return opened[1]


@pytest.fixture
def base(registry: Registry) -> Base:
    return registry.bases.get(BASE)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(BASE)


@pytest.fixture
def make_gateway(
    make_settings: MakeSettings,
    registry: Registry,
    versions: LocalBlobs,
    engine: FakeEngine,
    shared_workers: None,
) -> MakeGateway:
    def make(**changes: Any) -> Gateway:
        settings = make_settings(**changes)
        return Gateway(
            settings, registry=registry, versions=versions, bases=serving(settings, engine)
        )

    return make


@pytest.fixture
def store(home: Path, tmp_path: Path) -> str:
    """The URL of a store with the files of the template's adapters."""
    url, blobs = f"memory://{tmp_path}", LocalBlobs(home / "blobs")
    bucket = Bucket(Objects(url), "versions")
    for digest in blobs.digests():
        bucket.put(digest, blobs.path(digest))
    return url


@pytest.fixture
def shared(store: str, home: Path, tmp_path: Path, shared_workers: None) -> MakeShared:
    """Makes gateways with homes and engines of their own on one database and one store."""
    database = f"sqlite:///{home / 'weft.db'}"

    def make(name: str = "first", engine: FakeEngine | None = None, **changes: Any) -> Gateway:
        settings = demo_settings(
            tmp_path / name,
            **{"store": store, "database_url": database, "store_retry_seconds": 0} | changes,
        )
        registry, versions = open_registry(settings)
        bases = serving(settings, engine or FakeEngine(BASE))
        return Gateway(settings, registry=registry, versions=versions, bases=bases)

    return make


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    return make_gateway()


MakeClient = Callable[[Gateway], AsyncClient]


@pytest.fixture
def make_client() -> MakeClient:
    def make(gateway: Gateway) -> AsyncClient:
        return AsyncClient(
            transport=ASGITransport(create_app(gateway)),
            base_url="http://localhost",
            trust_env=False,
        )

    return make


@pytest.fixture
async def client(gateway: Gateway, make_client: MakeClient) -> AsyncIterator[AsyncClient]:
    async with make_client(gateway) as made:
        yield made


@pytest.fixture
def digest_of(registry: Registry) -> Callable[[str], str]:
    """Return the digest of an adapter's first version."""
    return lambda name: read_adapter(registry, name).versions[0].digest


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Logging that the test may set up: what was set up before is back afterwards.

    `weft serve` logs to the stderr of its own run, which is closed when the next command runs.
    """
    root, logger = logging.getLogger(), logging.getLogger("weft")
    handlers, levels = root.handlers[:], (root.level, logger.level)
    root.handlers = []  # pytest's: `force` would close them
    yield
    root.handlers = handlers
    root.setLevel(levels[0])
    logger.setLevel(levels[1])
    logging.captureWarnings(capture=False)


@pytest.fixture
def weft(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_logging: None) -> Weft:
    """Commands whose WEFT_* variables name the test's home and the demo base."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEFT_HOME", str(home))
    monkeypatch.setenv("WEFT_MODEL", str(DEMO / "base"))
    monkeypatch.setenv("WEFT_SERVED_BASE", BASE)

    def run(*words: object) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words])

    return run


@pytest.fixture
def url(make_gateway: MakeGateway) -> Iterator[str]:
    """A server over real HTTP that requires the key `secret`."""
    app = create_app(make_gateway(api_keys=("secret",)))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def remote(url: str, weft: Weft, monkeypatch: pytest.MonkeyPatch) -> Weft:
    """Commands against that server, from a folder without a registry."""
    monkeypatch.setenv("WEFT_HOME", "nowhere")
    monkeypatch.setenv("WEFT_SERVER", url)
    monkeypatch.setenv("WEFT_KEY", "secret")
    return weft


@pytest.fixture(params=["weft", "remote"], ids=["here", "there"])
def anywhere(request: pytest.FixtureRequest, shared_workers: None) -> Weft:
    """Commands on the registry at home, and the same commands through a server."""
    found: Weft = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def stub(
    tmp_path: Path, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> Stub:
    """A stub in place of vLLM, and supervisors with short timeouts."""
    made = Stub(tmp_path, make_settings(engine_start_seconds=15, engine_probe_seconds=0.3))
    monkeypatch.setattr(process, "engine_command", made.command)
    monkeypatch.setattr(process, "_STARTING_POLL_SECONDS", 0.02)
    monkeypatch.setattr(process, "_STOP_SECONDS", 2.0)
    for module in ("process", "remote"):
        monkeypatch.setattr(f"server.engine.{module}._POLL_SECONDS", 0.02)
    for module in ("launch", "remote"):
        monkeypatch.setattr(f"server.engine.{module}._FIRST_BACKOFF_SECONDS", 0.02)
    monkeypatch.setattr(launch, "_LOST_STOP_SECONDS", 0.2)
    return made


@pytest.fixture
def slow(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> SlowResponse:
    """Make the engine answer slowly, and as a stream if the test requests one."""
    response = SlowResponse(events=True)

    @asynccontextmanager
    async def send(_path: str, _body: bytes, *, model: str) -> AsyncIterator[FakeResponse]:
        engine.running[model] += 1
        try:
            async with engine.lost.ends():
                yield response
        finally:
            engine.running[model] -= 1

    monkeypatch.setattr(engine, "send", send)
    return response
