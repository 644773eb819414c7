"""What callers may do beyond what a role and a name say: protected aliases, folders to import from.

Not covered: roles and names (`server.auth`), and what is visible (`registry.access.visibility`).
"""

from collections.abc import Collection, Iterable
from pathlib import Path

from registry.callers import Caller
from registry.errors import AccessDenied
from registry.sources.errors import NothingToImport


def check_alias_move(caller: Caller, alias: str | None, protected: Collection[str]) -> None:
    """Raise AccessDenied when `alias` is protected and the caller is no admin."""
    if alias in protected and not caller.has_role("admin"):
        raise AccessDenied(f"the alias {alias} is protected; moving it needs the role admin")


def check_import_root(folder: str, roots: Iterable[Path]) -> Path:
    """Return the folder of that path, without links, when it is below one of the roots.

    Raises:
        AccessDenied: it is not; the error does not say whether the folder exists.
        NothingToImport: it is below a root and does not exist.
    """
    try:
        path = Path(folder).resolve()
    except (OSError, RuntimeError, ValueError):
        path = None
    if path is None or not any(path.is_relative_to(root.resolve()) for root in roots):
        raise AccessDenied("folders are imported from below WEFT_IMPORT_ROOTS only")
    if not path.is_dir():
        raise NothingToImport(folder, "there is no such folder")
    return path
