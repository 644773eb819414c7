"""The artifact store: staging versions by link or copy, ages, sizes."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from merge.peft_format import WEIGHTS_NAME, digest_folder
from registry.storage.blobs import LocalBlobs
from server.artifacts.store import ArtifactStore

DigestOf = Callable[[str], str]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """An empty store."""
    (tmp_path / "artifacts").mkdir()
    return ArtifactStore(tmp_path / "artifacts")


def stage(store: ArtifactStore, versions: LocalBlobs, digest: str) -> Path:
    """Stage one version and return its folder."""
    store.stage(digest, versions)
    return store.path(digest)


def test_staging_links_the_files(
    store: ArtifactStore, versions: LocalBlobs, digest_of: DigestOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A staged version shares its bytes with the registry's file, and they are hashed once."""
    digest = digest_of("zorp")
    hashed: list[Path] = []
    monkeypatch.setattr(
        "registry.storage.blobs.digest_folder",
        lambda path: hashed.append(path) or digest_folder(path),  # type: ignore[func-returns-value]
    )
    folder = stage(store, versions, digest)
    assert [versions.path(digest)] == hashed
    assert (folder / WEIGHTS_NAME).samefile(versions.path(digest) / WEIGHTS_NAME)
    assert digest == digest_folder(folder)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_staging_copies_where_it_cannot_link(
    store: ArtifactStore,
    versions: LocalBlobs,
    digest_of: DigestOf,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    """Across file systems, without permission, or with too many links, files are copied."""

    def refuse(_link: Path, _source: Path) -> None:
        raise OSError(number, "no link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    digest = digest_of("zorp")
    folder = stage(store, versions, digest)
    assert not (folder / WEIGHTS_NAME).samefile(versions.path(digest) / WEIGHTS_NAME)
    assert digest == digest_folder(folder)


def test_another_failure_leaves_nothing(
    store: ArtifactStore,
    versions: LocalBlobs,
    digest_of: DigestOf,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A full disk during staging is raised unchanged and leaves no partial folder."""

    def refuse(_link: Path, _source: Path) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(OSError, match="full"):
        stage(store, versions, digest_of("zorp"))
    assert frozenset() == store.digests()
    assert [] == list((tmp_path / "artifacts" / ".workspaces").iterdir())


def test_staging_twice_is_once(
    store: ArtifactStore, versions: LocalBlobs, digest_of: DigestOf
) -> None:
    """An existing version is not staged again."""
    digest = digest_of("zorp")
    folder = stage(store, versions, digest)
    before = (folder / WEIGHTS_NAME).stat().st_ino
    assert before == (stage(store, versions, digest) / WEIGHTS_NAME).stat().st_ino


def test_the_least_recently_touched_is_first(
    store: ArtifactStore, versions: LocalBlobs, digest_of: DigestOf
) -> None:
    """The age is the time since the last touch, not since the arrival."""
    names = ["zorp", "blim", "tref"]
    digests = [digest_of(name) for name in names]
    for age, digest in enumerate(digests):
        os.utime(stage(store, versions, digest), (1000 + age, 1000 + age))
    store.touch(digests[0])
    assert [digests[1], digests[2], digests[0]] == store.oldest_first()


def test_bytes_are_those_of_the_files(
    store: ArtifactStore, versions: LocalBlobs, digest_of: DigestOf
) -> None:
    """The store's size is the sum over its folders' files, and 0 when it is empty."""
    assert store.nbytes() == 0
    expected = 0
    for name in ("zorp", "tref"):
        folder = stage(store, versions, digest_of(name))
        expected += sum(file.stat().st_size for file in folder.iterdir())
    assert expected == store.nbytes()


def test_what_vanishes_while_it_is_counted_counts_nothing(
    versions: LocalBlobs, digest_of: DigestOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes and ages ignore artifacts that are deleted by hand meanwhile."""
    store = ArtifactStore(tmp_path)
    store.stage(digest_of("zorp"), versions)
    seen = store.digests() | {"0" * 64}
    monkeypatch.setattr(store, "digests", lambda: seen)
    assert store.nbytes() == store.size(digest_of("zorp"))
    assert set(store.oldest_first()) == seen
