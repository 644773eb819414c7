"""The engine's own hard links to the adapters that it may load. Runs inside vLLM's API server.

vLLM reads an adapter's files again after it evicted the adapter from memory, and its core dies if
they are gone. So vLLM loads from a folder of hard links that only this process removes: deleting an
artifact, by weft or by hand, removes a name, and the engine keeps the files.
"""

import os
import shutil
import socket
from pathlib import Path

from merge.peft_format import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    FormatError,
    digest_folder,
    is_digest,
    open_folder,
)
from merge.peft_format.atomic_files import atomic_folder
from server.engine.fetching import NotFetched, fetch
from server.hard_links import link_or_copy

_PINNED = ".held"


class AdapterRejected(Exception):
    """An adapter that the engine must not load."""


def pin(digest: str) -> Path:
    """Link the artifact's files, check them, and return the folder that vLLM may load.

    Raises:
        AdapterRejected: there is no such artifact, its files changed since they were built, or
            they are not a LoRA adapter.
        NodeUnavailable: this machine's node should bring it and cannot now.
    """
    if not is_digest(digest):
        raise AdapterRejected("not a digest")
    source, target = _root() / digest, _own() / digest
    if not target.is_dir():
        try:
            if not source.is_dir():
                fetch(digest)
            _link(source, target)
        except NotFetched as error:
            raise AdapterRejected(str(error)) from error
        except OSError as error:
            raise AdapterRejected(f"its files cannot be read: {error}") from error
    try:
        open_folder(target)
        content = digest_folder(target)
    except (FormatError, OSError) as error:
        unpin(digest)
        raise AdapterRejected(str(error)) from error
    if content != digest:
        unpin(digest)
        raise AdapterRejected("the files do not match their digest")
    return target


def unpin(digest: str) -> None:
    """Remove the links of a digest that the engine no longer knows."""
    if is_digest(digest):
        shutil.rmtree(_own() / digest, ignore_errors=True)


def sweep() -> None:
    """Remove the links of dead engines on this host. Called before anything is pinned."""
    host = socket.gethostname()
    shutil.rmtree(_own(), ignore_errors=True)  # in a container every run has the same pid
    for folder in (_root() / _PINNED).glob(f"{host}-*"):
        pid = folder.name.rpartition("-")[2]
        if not (pid.isdigit() and Path(f"/proc/{pid}").exists()):
            shutil.rmtree(folder, ignore_errors=True)


def _root() -> Path:
    return Path(os.environ["WEFT_ARTIFACTS"])


def _own() -> Path:
    return _root() / _PINNED / f"{socket.gethostname()}-{os.getpid()}"


def _link(source: Path, target: Path) -> None:
    try:
        with atomic_folder(target) as folder:
            for name in (CONFIG_NAME, WEIGHTS_NAME):
                link_or_copy(source / name, folder / name)
    except FileExistsError:
        pass  # another thread was first
