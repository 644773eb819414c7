"""Rules beyond roles and names: protected aliases, and where imports may come from.

Not covered: roles and names (`server.auth`), and visibility (`registry.access.visibility`).
"""

from collections.abc import Collection, Iterable
from pathlib import Path

from registry.callers import Caller
from registry.errors import AccessDenied
from registry.sources.errors import HubOwnerRefused, NothingToImport
from registry.sources.hub_address import HubAddress


def check_alias_move(caller: Caller, alias: str | None, protected: Collection[str]) -> None:
    """Raise AccessDenied if `alias` is protected and the caller is not an admin."""
    if alias in protected and not caller.has_role("admin"):
        raise AccessDenied(f"The alias {alias} is protected; moving it needs the role admin.")


def check_hub_owner(address: HubAddress, owners: Collection[str]) -> None:
    """Check that clients may import from the owner of an address. The Hub ignores case.

    Raises:
        HubOwnerRefused: they may not.
    """
    owner = address.repo.partition("/")[0]
    if "*" not in owners and owner.lower() not in {known.lower() for known in owners}:
        raise HubOwnerRefused(owner, ", ".join(owners) or "no owner")


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
        raise AccessDenied("Folders can be imported only from below WEFT_IMPORT_ROOTS.")
    if not path.is_dir():
        raise NothingToImport(folder, "there is no such folder")
    return path
