"""Files and folders that appear whole or not at all: written beside their place, then renamed."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def atomic_file(path: Path, *, overwrite: bool = True, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Give a file that becomes `path`, on disk for certain, when the context ends.

    Missing parents are made. After a failure what was at `path` is unchanged, and nothing else is
    left. A process that is killed leaves a hidden file, which its successor of the same id reuses.

    Raises:
        FileExistsError: `path` exists and `overwrite` is False.
        OSError: the disk is full or gone.
    """
    if not overwrite and path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    make_folders(path.parent)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            partial.replace(path)
        else:
            _rename_to_new(partial, path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_atomic(path: Path, text: str) -> None:
    """Write a text. Raises OSError: the disk is full or gone; see `atomic_file`."""
    with atomic_file(path) as file:
        file.write(text.encode())


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` that becomes `path` when the context ends.

    Missing parents are made. After a failure nothing is left at or beside `path`. The files are not
    synced: a folder that must outlive a power failure goes through a store, which does.

    Raises:
        FileExistsError: `path` is there and not an empty folder, before or at the end.
        OSError: the disk is full or gone.
    """
    exists = FileExistsError(f"{path} exists and is not an empty folder: name another or remove it")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise exists
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
    try:
        partial.chmod(0o755)  # the engine may run as another user
        yield partial
        if not rename_folder(partial, path):
            raise exists
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def rename_folder(folder: Path, path: Path) -> bool:
    """Rename `folder` to `path`, unless a folder with files is there; return whether it was.

    Of several processes that rename folders to one path, the first wins.

    Raises:
        OSError: the disk is gone, or `path` is on another file system.
    """
    try:
        folder.rename(path)
    except OSError as error:
        # The system replaces an empty folder only.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def make_folders(path: Path) -> None:
    """Create a folder and its missing parents, and sync the names of those that are created.

    Raises:
        OSError: the disk is full or gone, or a file has the name.
    """
    if path.is_dir():
        return
    if path.parent != path:
        make_folders(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the disk holds `path`: a file's bytes, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename_to_new(partial: Path, path: Path) -> None:
    """Give `partial` the name `path` as well. Unlike a rename, a link never replaces a file."""
    try:
        path.hardlink_to(partial)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        partial.rename(path)  # such a file system has no way to do it without a race
