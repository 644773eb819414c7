"""The power fails: whatever a client was told is stored, is stored.

A row is committed only when the files that it stands for are on disk for certain, and a name of the
stores stands for whole files at every moment. SQLite's own syncs are set in
`registry.storage.database`.
"""

import os
from pathlib import Path

import pytest
from httpx import AsyncClient
from sqlalchemy.orm import Session

from merge.peft_format import is_digest
from merge.peft_format.atomic_files import atomic_file
from server.gateway import Gateway
from server.home import make_home
from tests.server.asgi import CHAT
from tests.server.durable import Ledger
from tests.server.test_small_disk import adapter_tar, send, writes

__all__ = ["adapter_tar"]  # a fixture


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, home: Path) -> Ledger:
    """A ledger to which the template's files are certain."""
    ledger = Ledger(monkeypatch)
    ledger.record_all(home)
    return ledger


async def test_a_commit_follows_its_files(
    client: AsyncClient, gateway: Gateway, home: Path, ledger: Ledger, adapter_tar: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """At each commit every file of the stores is synced, and so is every name on its path, also of
    folders that the first file makes."""
    real, commits = Session.commit, []
    stores = (gateway.settings.blobs, gateway.settings.artifacts, gateway.settings.jobs / "files")

    def commit(session: Session) -> None:
        commits.append(ledger.lost(home, *stores))
        real(session)

    monkeypatch.setattr(Session, "commit", commit)
    requests = writes(0, adapter_tar)
    for name in ("upload", "merge", "composition", "file"):
        response = await send(client, requests[name])
        assert response.is_success, (name, response.text)
    published = await client.post(
        "/registry/compositions/mix-0/-/versions/1/publish", json={"adapter": "mixed"}
    )
    assert published.is_success, published.text
    assert len(commits) >= 5
    assert [] == [lost for lost in commits if lost]
    assert [] == ledger.lost(home, *stores)


async def test_a_name_stands_for_whole_files(
    client: AsyncClient, ledger: Ledger, adapter_tar: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder gets its digest for a name only after its files and its own entries are synced, so
    no digest stands for files that the power cut off."""
    real, renamed = os.rename, 0

    def rename(source: Path, target: Path) -> None:
        nonlocal renamed
        if is_digest(target.name) and Path(source).is_dir():
            renamed += 1
            lost = [file for file in Path(source).iterdir() if not ledger.is_certain(file, source)]
            assert [] == lost
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    requests = writes(0, adapter_tar)
    for name in ("upload", "merge"):
        assert (await send(client, requests[name])).is_success
    assert (await client.post(CHAT, json={"model": "plov"})).is_success  # staged
    assert renamed == 3


def test_an_atomic_file_is_old_or_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is synced before it takes its place, and its name and the new folders above it are
    when the context has ended."""
    ledger = Ledger(monkeypatch)
    path, replaced = tmp_path / "new" / "folders" / "file", []
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        replaced.append(source.read_bytes())
        ledger.record(source.parent)  # its name is not the question here
        assert ledger.is_certain(Path(source), source.parent)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    for text in (b"old", b"new"):
        with atomic_file(path) as file:
            file.write(text)
        assert ledger.is_certain(path, tmp_path)
    assert [b"old", b"new"] == replaced


def test_a_new_home_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The home and the folders above it that are created are synced with it."""
    ledger = Ledger(monkeypatch)
    home = tmp_path / "srv" / "weft"
    make_home(home)
    assert ledger.has_entry(home)
    assert ledger.has_entry(home.parent)
    assert 0o700 == home.stat().st_mode & 0o777
