"""Files and folders appear complete or not at all, even if writing them fails."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from merge.peft_format.atomic_files import atomic_file, atomic_folder, write_atomic


class Stop(Exception):
    """Ends a write in the middle."""


def stop() -> None:
    """Raise Stop."""
    raise Stop


def write(path: Path, meanwhile: Callable[[], object], *, overwrite: bool = True) -> None:
    """Write a file, and do something else before it appears."""
    with atomic_file(path, overwrite=overwrite) as file:
        file.write(b"new")
        meanwhile()


def fill(path: Path, meanwhile: Callable[[], object], name: str = "x") -> None:
    """Fill a folder, and do something else before it appears."""
    with atomic_folder(path) as folder:
        (folder / name).touch()
        meanwhile()


def test_a_text_replaces_the_one_before(tmp_path: Path) -> None:
    """The file has the new content, its parents exist, and no other file is left beside it."""
    path = tmp_path / "deep" / "a.txt"
    write_atomic(path, "one")
    write_atomic(path, "two")
    assert "two" == path.read_text()
    assert ["a.txt"] == [each.name for each in path.parent.iterdir()]


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    """After a failed write the previous file is unchanged, and the partial file is removed."""
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(Stop):
        write(path, meanwhile=stop)
    assert "old" == path.read_text()
    assert ["a"] == [each.name for each in tmp_path.iterdir()]


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_never_replaces_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """A new file is written with its mode, also where the file system has no hard links."""
    if not links:

        def fail(path: Path, target: Path) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", fail)
    path = tmp_path / "a"
    with atomic_file(path, overwrite=False, mode=0o600) as file:
        file.write(b"one")
        assert not path.exists()
    assert (b"one", 0o600) == (path.read_bytes(), path.stat().st_mode & 0o777)
    with pytest.raises(FileExistsError), atomic_file(path, overwrite=False):
        pass
    assert ["a"] == [each.name for each in tmp_path.iterdir()]


def test_a_file_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    """Of two writers of a new file, the first succeeds and the second gets an error."""
    path = tmp_path / "a"
    with pytest.raises(FileExistsError):
        write(path, meanwhile=lambda: path.write_text("first"), overwrite=False)
    assert "first" == path.read_text()


def test_a_file_is_synced_before_it_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's bytes are synced before it gets its name, and then the folder is synced."""
    path, seen = tmp_path / "a", []
    sync = os.fsync

    def note(descriptor: int) -> None:
        seen.append(path.exists())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_atomic(path, "x")
    assert [False, True] == seen


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    """It may replace an empty folder, other users can read it, and nothing is left beside it."""
    path = tmp_path / "deep" / "a"
    path.mkdir(parents=True)
    with atomic_folder(path) as folder:
        (folder / "x").write_text("1")
        assert [] == list(path.iterdir())
    assert ("1", 0o755) == ((path / "x").read_text(), path.stat().st_mode & 0o777)
    assert ["a"] == [each.name for each in path.parent.iterdir()]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """After a failed write neither the folder nor any part of it remains."""
    with pytest.raises(Stop):
        fill(tmp_path / "a", meanwhile=stop)
    assert [] == list(tmp_path.iterdir())


def test_a_folder_never_replaces_another(tmp_path: Path) -> None:
    """A file, a folder with files, and a folder created in the meantime are left unchanged."""
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for name in ("file", "full"):
        with pytest.raises(FileExistsError, match="not an empty folder"):
            atomic_folder(tmp_path / name).__enter__()
    path = tmp_path / "a"
    with pytest.raises(FileExistsError, match="not an empty folder"):
        fill(path, meanwhile=lambda: fill(path, meanwhile=lambda: None, name="first"))
    assert ["first"] == [each.name for each in path.iterdir()]
    assert ["a", "file", "full"] == sorted(each.name for each in tmp_path.iterdir())
