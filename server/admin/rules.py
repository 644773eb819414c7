"""What callers may do beyond what a role and a name say: protected aliases, folders to import from.

Not covered: roles and names (`server.auth`), and what is visible (`registry.access.visibility`).
"""

from collections.abc import Collection, Iterable
from pathlib import Path

from registry.callers import Caller
from registry.errors import AccessDenied


def check_alias_move(caller: Caller, alias: str | None, protected: Collection[str]) -> None:
    """Raise AccessDenied when `alias` is protected and the caller is no admin."""
    if alias in protected and not caller.has_role("admin"):
        raise AccessDenied(f"the alias {alias} is protected; moving it needs the role admin")


def check_import_root(folder: str, roots: Iterable[Path]) -> Path:
    """Return the folder of that path, without links, when it lies below one of the roots.

    Raises:
        AccessDenied: it does not; whether it exists is not told.
    """
    allowed = [root.resolve() for root in roots]
    try:
        path = Path(folder).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        path = None
    if path is None or not any(path.is_relative_to(root) for root in allowed):
        raise AccessDenied("folders are imported from below WEFT_IMPORT_ROOTS only")
    return path
