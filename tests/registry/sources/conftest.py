"""A fake Hub with adapters, a client for it, and a clock without real waits."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from huggingface_hub import close_session

from registry.admission.admit import MAX_BYTES
from registry.service import Registry
from registry.sources.hub import HubImport
from registry.sources.hub_client import HubClient
from registry.storage.database import Database
from tests.registry.conftest import tensors, write_adapter
from tests.registry.sources.fake_hub import FakeHub, Repository

CARD = "---\nlicense: apache-2.0\n---\n# Legal\n"
TOKEN = "hf_of_the_environment"


@pytest.fixture
def database(sqlite_database: Database) -> Database:
    """Sources need only one database; the tests of the service cover both."""
    return sqlite_database


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with FakeHub() as made:
        yield made
    close_session()


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of every wait; none takes time."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


class Put(Protocol):
    """Puts a tiny adapter on the Hub; its content follows from `seed`."""

    def __call__(
        self, repo: str, *, seed: int = 0, subfolder: str = "", **changes: object
    ) -> Repository:
        """Return its repository; `changes` are of the config."""


@pytest.fixture
def put(hub: FakeHub, tmp_path: Path) -> Put:
    def make(repo: str, *, seed: int = 0, subfolder: str = "", **changes: object) -> Repository:
        folder = write_adapter(tmp_path / "hub" / repo, tensors(seed=seed), **changes)
        (folder / "README.md").write_text(CARD)
        inside = f"{subfolder}/" if subfolder else ""
        files = {inside + path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        return hub.repositories.setdefault(repo, Repository(files))

    return make


@pytest.fixture
def importer(hub: FakeHub, registry: Registry) -> HubImport:
    return HubImport(registry, HubClient(hub.endpoint), MAX_BYTES)
