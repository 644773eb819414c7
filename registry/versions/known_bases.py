"""The bases that a registry has been told of, inside a transaction that the service has begun."""

from collections.abc import Iterable

from registry.access import audit
from registry.bases import base_key, base_keys
from registry.errors import BaseConflict, NameInvalid, UnknownBase
from registry.references import MAX_LENGTH
from registry.storage.database import ReadSession, WriteSession
from registry.storage.errors import Conflict
from registry.storage.insert import insert
from registry.storage.models import BaseAliasRow, BaseRow
from registry.types import Shapes
from registry.versions import queries
from registry.versions.names import claim


def found(session: ReadSession, text: str) -> BaseRow:
    """Return the base that `text` is a spelling of.

    Raises:
        UnknownBase: naming those that are known.
    """
    row = queries.base_by_key(session, base_key(text))
    if row is None:
        raise UnknownBase(text, [base.name for base in queries.bases(session)])
    return row


def add(
    session: WriteSession,
    name: str,
    shapes: Shapes,
    aliases: Iterable[str],
    architecture: str | None,
    actor: str,
) -> None:
    """Make a base known, or add the spellings that are new to one that is.

    Raises:
        NameInvalid, NameTaken, BaseConflict: as `Registry.add_base`.
    """
    if not 0 < len(name) <= MAX_LENGTH or not name.isprintable():
        raise NameInvalid(name[:MAX_LENGTH], f"1 to {MAX_LENGTH} printable characters")
    stored = {module: list(shape) for module, shape in shapes.items()}
    row = BaseRow(name=name, architecture=architecture, shapes=stored)
    if not claim(session, row, actor) and queries.base_shapes(session, name) != stored:
        raise BaseConflict(name, "it is known with other shapes of modules")
    new = [key for key in sorted(base_keys(name, aliases)) if _add_key(session, name, key)]
    if new:
        audit.record(session, actor, "base.added", name, keys=new)


def _add_key(session: WriteSession, name: str, key: str) -> bool:
    """Make a key mean this base; say whether it is new."""
    try:
        insert(session, BaseAliasRow(key=key, base=name))
    except Conflict as conflict:
        owner = queries.owner_of_key(session, key)
        if owner != name:
            raise BaseConflict(name, f"{key!r} means {owner} already") from conflict
        return False
    return True
