"""Adapters from the local disk: one PEFT folder, or a folder full of them.

Not covered: adapters further down than one level, and folders behind symbolic links.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from merge.peft_format import CONFIG_NAME
from registry.errors import RegistryError
from registry.service import Registry
from registry.sources.errors import NothingToImport
from registry.sources.outcome import Imported
from registry.types import Registration

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._-]+")


def find_adapters(path: Path) -> tuple[Path, ...]:
    """Return `path` itself when it is an adapter's folder, else those directly below it, by name.

    Raises:
        NothingToImport: there is none.
    """
    if (path / CONFIG_NAME).exists():
        return (path,)
    below = sorted(path.iterdir()) if path.is_dir() else []
    found = tuple(p for p in below if not p.is_symlink() and (p / CONFIG_NAME).exists())
    if not found:
        raise NothingToImport(str(path))
    return found


def name_for(folder: Path) -> str:
    """Return the adapter name that a folder's own name suggests; it may still be invalid."""
    return _NOT_IN_A_NAME.sub("-", folder.resolve().name.lower()).strip("-")


def name_of(folder: Path, path: Path, name: str | None) -> str:
    """Return the name for a folder that was found in `path`: see `import_folder`."""
    own = name_for(folder)
    return own if name is None else name if folder == path else f"{name}/{own}"


def import_folder(
    registry: Registry,
    path: Path,
    *,
    name: str | None = None,
    base: str | None = None,
    alias: str | None = None,
    actor: str = "local",
) -> Iterator[Imported]:
    """Register what `find_adapters` finds, one after the other; a refused one stops no other.

    A store or a database that fails stops all: what was yielded before is there.

    Args:
        registry: to register in.
        path: an adapter's folder, or a folder of such.
        name: of the one adapter, or the namespace of several; None for the folders' own names.
        base: as `Registry.register`, for each of them.
        alias: as `Registry.register`, for each of them.
        actor: who does it.

    Raises:
        NothingToImport: there is none; nothing was registered.
        StorageFailed, DatabaseUnavailable: the store or the database is full or gone.
    """
    for folder in find_adapters(path):
        own, chosen = name_for(folder), name_of(folder, path, name)
        try:
            outcome: Registration | RegistryError = registry.adapters.register(
                folder, name=chosen, base=base, alias=alias, source=f"folder:{own}", actor=actor
            )
        except RegistryError as error:
            outcome = error
        done = Imported(f"folder:{own}", chosen, outcome)
        if done.fatal is not None:
            raise done.fatal
        yield done
