"""The registry in a home folder, and the lock that keeps a second server off it.

Imports neither torch nor FastAPI: every command that opens the registry starts here.
"""

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from server.settings import Settings

if TYPE_CHECKING:
    from registry.service import Registry
    from registry.storage.blobs import LocalBlobs
    from registry.storage.cached_blobs import CachedBlobs

LOCK_NAME = "server.lock"


class HomeInUse(OSError):
    """Another server runs on the same home."""

    def __init__(self, settings: Settings, owner: str) -> None:
        super().__init__(
            f"another weft server{owner} runs on {settings.home.resolve()}: stop it, or choose "
            "another folder with --home or WEFT_HOME"
        )


def make_home(home: Path) -> None:
    """Create a home that only its owner can enter: it has key hashes and training data.

    One that an earlier release made is closed too. Raises OSError: it cannot be created.
    """
    if not home.is_dir():
        from merge.peft_format.atomic_files import make_folders, sync

        make_folders(home.parent)
        home.mkdir(mode=0o700, exist_ok=True)
        sync(home.parent)
    if (home / LOCK_NAME).exists() and stat.S_IMODE(home.stat().st_mode) & 0o077:
        with suppress(PermissionError):  # another user's
            home.chmod(0o700)


def open_registry(
    settings: Settings, *, statement_seconds: float | None = None
) -> "tuple[Registry, LocalBlobs | CachedBlobs]":
    """Return the registry of `settings` with its database migrated, and the store of its files.

    Args:
        settings: they name the database and the folders.
        statement_seconds: the time limit of each statement; None for none.

    Raises:
        registry.errors.RegistryError: the database cannot be used, or the store cannot be opened.
    """
    from registry.service import Registry
    from registry.storage.database import Database
    from server.admission import admission_workers
    from server.embedders import open_embedder
    from server.stores import version_store

    make_home(settings.home)
    database = Database(settings.database, statement_seconds=statement_seconds)
    database.upgrade()
    blobs = version_store(settings)
    embedder = open_embedder(settings)
    return Registry(database, blobs, settings.policy, embedder, admission_workers), blobs


@contextmanager
def locked_home(settings: Settings, url: str) -> Iterator[None]:
    """Hold the home for one server; the operating system releases the lock of a dead process.

    Args:
        settings: they name the home, which is created.
        url: where this server will answer, for the message that a second one prints.

    Raises:
        HomeInUse: with process id and URL of the server that holds it.
        OSError: the folder cannot be created or written.
    """
    make_home(settings.home)
    with (settings.home / LOCK_NAME).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeInUse(settings, _owner(lock.name)) from None
        lock.truncate(0)
        json.dump({"pid": os.getpid(), "url": url}, lock)
        lock.flush()
        yield


def _owner(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as lock:  # noqa: PTH123 - the lock's own name
            owner = json.load(lock)
        return f" (process {owner['pid']}, {owner['url']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # it is writing its name at this moment
