"""The engine's own hard links to the adapters that it may load. Runs inside vLLM's API server.

vLLM reads an adapter's files again whenever it was evicted from memory, and its core dies when
they are gone. So it is given a folder of hard links that only this process removes: deleting an
artifact, by weft or by hand, frees the name but never takes the files from under the engine.
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
from server.hard_links import link_or_copy

_PINNED = ".held"


class AdapterRejected(Exception):
    """A folder that must not reach the engine."""


def pin(digest: str) -> Path:
    """Link the artifact's files, check them, and return the folder that vLLM may load.

    Raises:
        AdapterRejected: no such artifact, files that changed since they were built, or no LoRA
            adapter.
    """
    if not is_digest(digest):
        raise AdapterRejected("not a digest")
    source, target = _root() / digest, _own() / digest
    if not target.is_dir():
        try:
            _link(source, target)
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
        raise AdapterRejected("the files do not match the digest they are named by")
    return target


def unpin(digest: str) -> None:
    """Drop the links of a digest that the engine does not know any more."""
    if is_digest(digest):
        shutil.rmtree(_own() / digest, ignore_errors=True)


def sweep() -> None:
    """Drop what engines of this host left behind when they died. Called before anything is held."""
    host = socket.gethostname()
    shutil.rmtree(_own(), ignore_errors=True)  # in a container every life has the same pid
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
