"""The engine's own links: pinning, survival of deletions, and sweeping."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from merge.peft_format import CONFIG_NAME, WEIGHTS_NAME, digest_folder
from registry.storage.blobs import LocalBlobs
from server.artifacts.store import ArtifactStore
from server.engine.pinned import AdapterRejected, pin, sweep, unpin

DigestOf = Callable[[str], str]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder from which the engine loads."""
    folder = tmp_path / "artifacts"
    folder.mkdir()
    monkeypatch.setenv("WEFT_ARTIFACTS", str(folder))
    return folder


@pytest.fixture
def digest(root: Path, versions: LocalBlobs, digest_of: DigestOf) -> str:
    """An artifact in the store."""
    digest = digest_of("zorp")
    ArtifactStore(root).stage(digest, versions)
    return digest


def pinned(root: Path) -> list[str]:
    """Return the digests that this process has pinned."""
    own = root / ".held" / f"{socket.gethostname()}-{os.getpid()}"
    return sorted(path.name for path in own.iterdir()) if own.is_dir() else []


def test_a_pinned_adapter_has_the_artifact_s_files(root: Path, digest: str) -> None:
    """The folder lies beside the store's own, with the same bytes and without copying them."""
    folder = pin(digest)
    assert folder != root / digest
    assert digest == digest_folder(folder)
    assert (folder / WEIGHTS_NAME).samefile(root / digest / WEIGHTS_NAME)
    assert [digest] == pinned(root)


def test_a_pinned_adapter_survives_every_deletion(root: Path, digest: str) -> None:
    """Pinned files stay until they are unpinned, also when the artifact is removed by hand."""
    folder = pin(digest)
    shutil.rmtree(root / digest)
    assert digest == digest_folder(folder)
    assert folder == pin(digest)
    unpin(digest)
    assert not folder.exists()
    with pytest.raises(AdapterRejected):
        pin(digest)


def test_pinned_folders_are_not_artifacts(root: Path, digest: str) -> None:
    """The store does not count or remove the engine's links."""
    pin(digest)
    assert frozenset({digest}) == ArtifactStore(root).digests()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "/etc", "zorp", "A" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n",
     "../" + "0" * 64, ".held", "\u0660" * 64],
)  # fmt: skip
def test_only_a_digest_is_a_name(root: Path, name: str) -> None:
    """Only 64 hexadecimal digits can be pinned or unpinned."""
    with pytest.raises(AdapterRejected, match="not a digest"):
        pin(name)
    unpin(name)
    assert root.is_dir()


def test_an_unknown_digest_is_rejected(root: Path) -> None:
    """A digest without files leaves nothing behind."""
    with pytest.raises(AdapterRejected, match="cannot be read"):
        pin("0" * 64)
    assert [] == [name for name in pinned(root) if not name.endswith(".partial")]


def test_changed_files_are_rejected(root: Path, digest: str) -> None:
    """Files that do not match their name never reach the engine, and no link to them stays."""
    config = root / digest / CONFIG_NAME
    text = config.read_text()
    config.unlink()
    config.write_text(text + " ")
    with pytest.raises(AdapterRejected, match="do not match their digest"):
        pin(digest)
    assert [] == pinned(root)


def test_a_pinned_adapter_is_checked_again(root: Path, digest: str) -> None:
    """Files that changed after they were pinned are noticed at the next load, and dropped."""
    config = pin(digest) / CONFIG_NAME
    text = config.read_text()
    config.unlink()
    config.write_text(text + " ")
    with pytest.raises(AdapterRejected, match="do not match their digest"):
        pin(digest)
    assert digest == digest_folder(pin(digest))


@pytest.mark.parametrize("name", [CONFIG_NAME, WEIGHTS_NAME])
def test_a_symbolic_link_is_rejected(root: Path, digest: str, name: str, tmp_path: Path) -> None:
    """A file that points elsewhere could change after the check."""
    outside = tmp_path / name
    shutil.move(root / digest / name, outside)
    (root / digest / name).symlink_to(outside)
    with pytest.raises(AdapterRejected):
        pin(digest)
    assert [] == pinned(root)


def test_a_linked_folder_can_only_give_what_its_name_says(
    root: Path, digest: str, tmp_path: Path
) -> None:
    """A symbolic link in the place of a folder cannot bring in other content."""
    other = tmp_path / "elsewhere"
    shutil.copytree(root / digest, other)
    (root / ("0" * 64)).symlink_to(other)
    with pytest.raises(AdapterRejected, match="do not match their digest"):
        pin("0" * 64)


def test_a_folder_that_is_no_adapter_is_rejected(root: Path) -> None:
    """A folder under a digest must be a LoRA adapter."""
    folder = root / ("0" * 64)
    folder.mkdir()
    (folder / CONFIG_NAME).write_text("{}")
    (folder / WEIGHTS_NAME).write_bytes(b"junk")
    with pytest.raises(AdapterRejected):
        pin("0" * 64)
    assert [] == pinned(root)


def test_a_crash_in_between_does_not_stand_in_the_way(root: Path, digest: str) -> None:
    """A partial link folder of an earlier attempt is replaced."""
    own = root / ".held" / f"{socket.gethostname()}-{os.getpid()}"
    (own / f"{digest}.partial").mkdir(parents=True)
    assert digest == digest_folder(pin(digest))


def test_sweeping_drops_the_dead_and_spares_the_living(root: Path, digest: str) -> None:
    """Links of this host's dead engines are removed; those of others and of running engines
    remain.
    """
    host, pinned_root = socket.gethostname(), root / ".held"
    pin(digest)
    kept = [f"{host}-{os.getppid()}", "elsewhere-999999999"]
    dropped = [f"{host}-999999999", f"{host}-nonsense"]
    for name in (*kept, *dropped):
        (pinned_root / name).mkdir()
    sweep()
    assert sorted(kept) == sorted(path.name for path in pinned_root.iterdir())


def test_sweeping_an_empty_store_is_nothing(root: Path) -> None:
    """Sweeping a store without links does nothing."""
    sweep()
    assert [] == list(root.iterdir())
