"""Import adapters from the local disk: one PEFT folder, or a folder of PEFT folders.

Not covered: adapters deeper than one level, and folders behind symbolic links.
"""

import difflib
from collections.abc import Iterator
from pathlib import Path

from merge.peft_format import CONFIG_NAME
from registry.errors import RegistryError
from registry.references import suggest_name
from registry.service import Registry
from registry.sources.errors import NothingToImport
from registry.sources.outcome import Imported
from registry.types import Registration

_ARCHIVES = (".tar", ".tgz", ".gz", ".zip", ".bz2", ".xz", ".zst", ".7z")


def find_adapters(path: Path) -> tuple[Path, ...]:
    """Return `path` if it is an adapter's folder, otherwise the adapters' folders in it, by name.

    Raises:
        NothingToImport: there is no adapter; the reason suggests where to look.
    """
    if (path / CONFIG_NAME).exists():
        return (path,)
    below = sorted(path.iterdir()) if path.is_dir() else []
    folders = tuple(p for p in below if not p.is_symlink() and (p / CONFIG_NAME).exists())
    if not folders:
        raise NothingToImport(str(path), _reason(path))
    return folders


def _reason(path: Path) -> str:
    """Return the reason why `path` has no adapter, and a path to import instead."""
    if path.is_file():
        if path.suffix in _ARCHIVES:
            return "it is an archive; unpack it and import the folder"
        return f"it is a file; import the folder that holds it, {path.parent}"
    if path.is_dir():
        deeper = next((p.parent for p in sorted(path.glob(f"*/*/{CONFIG_NAME}"))), None)
        if deeper is not None:
            return f"adapters lie further down; import {deeper.parent}"
        return f"neither it nor a folder directly below it holds {CONFIG_NAME}"
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    if near:
        return f"there is no such folder; {path.parent / near[0]} exists"
    if len(path.parts) == 2 and not path.is_absolute():
        return f"there is no such folder; hf:{path} imports it from the Hub"
    return f"there is no such folder, seen from {Path.cwd()}"


def name_for(folder: Path) -> str:
    """Return an adapter name derived from a folder's name; "" if there is none."""
    return suggest_name(folder.resolve().name) or ""


def origin_of(folder: Path) -> str:
    """Return a folder's path as a version's source."""
    return f"folder:{folder.resolve()}"


def name_of(folder: Path, path: Path, name: str | None) -> str:
    """Return the adapter name for a folder in `path`: see `import_folder`."""
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
    """Register the folders of `find_adapters` one by one; a refused one does not stop the others.

    A failure of the store or the database stops the import; the yielded versions remain.

    Args:
        registry: the registry.
        path: an adapter's folder, or a folder of adapters' folders.
        name: the name of one adapter, or the namespace of several; None uses the folders' names.
        base: as `Adapters.register`, for every adapter.
        alias: as `Adapters.register`, for every adapter.
        actor: recorded as the versions' author.

    Raises:
        NothingToImport: there is no adapter; nothing was registered.
        StorageFailed, DatabaseUnavailable: the store or the database is full or unavailable.
    """
    for folder in find_adapters(path):
        source, chosen = origin_of(folder), name_of(folder, path, name)
        try:
            outcome: Registration | RegistryError = registry.adapters.register(
                folder, name=chosen, base=base, alias=alias, source=source, actor=actor
            )
        except RegistryError as error:
            outcome = error
        done = Imported(source, chosen, outcome)
        if done.fatal is not None:
            raise done.fatal
        yield done
