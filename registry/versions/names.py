"""Operations on names and aliases of adapters, compositions and bases within a transaction."""

from collections.abc import Mapping

from registry.access import audit
from registry.callers import namespace_of
from registry.errors import NameTaken
from registry.storage.columns import now
from registry.storage.database import WriteSession
from registry.storage.errors import Conflict
from registry.storage.insert import insert
from registry.storage.models import (
    AdapterRow,
    AliasMoveRow,
    AliasRow,
    BaseRow,
    CompositionRow,
    NameRow,
    Table,
)
from registry.types import NameKind
from registry.versions import queries
from registry.versions.queries import VersionRow
from registry.versions.resolve import unknown, usable, version_table


def claim(session: WriteSession, owner: AdapterRow | CompositionRow | BaseRow, actor: str) -> bool:
    """Assign a name to `owner`, lock the name, and return whether it is new.

    A new name in a namespace is private to the namespace, except the name of a base.

    Raises:
        NameTaken: the name belongs to an object of another kind.
    """
    kind = _KINDS[type(owner)]
    try:
        name = NameRow(name=owner.name, kind=kind, created_at=now(), created_by=actor)
        private = kind != "base" and namespace_of(owner.name) is not None
        name.visibility = "private" if private else "public"
        insert(session, name, owner)
    except Conflict as conflict:
        if conflict.constraint != "pk_names":
            raise
        existing_kind = queries.lock_name(session, owner.name)
        if existing_kind is not None and existing_kind != kind:
            raise NameTaken(owner.name, existing_kind) from conflict
        return False
    return True


_KINDS: Mapping[type[Table], NameKind] = {
    AdapterRow: "adapter",
    BaseRow: "base",
    CompositionRow: "composition",
}


def move_alias(session: WriteSession, row: VersionRow, alias: str, actor: str) -> AliasRow:
    """Point an alias of a version's name at that version, and record the move in the history.

    If the alias points at the version already, nothing changes. The caller must lock the name.

    Raises:
        VersionRetired, VersionQuarantined: the version is not in use.
    """
    usable(session, row)
    current = queries.alias(session, row.name, alias)
    before = None if current is None else current.number
    if current is None:
        current = AliasRow(name=row.name, alias=alias)
        session.add(current)
    elif before == row.number:
        return current
    current.number, current.moved_at, current.moved_by = row.number, now(), actor
    session.add(
        AliasMoveRow(
            name=row.name,
            alias=alias,
            from_number=before,
            to_number=row.number,
            moved_at=current.moved_at,
            moved_by=actor,
        )
    )
    detail = {"alias": alias, "from": before, "to": row.number}
    audit.record(session, actor, "alias.moved", row.name, **detail)
    session.flush()
    queries.advance_revision(session)  # the list of models changes
    return current


def locked_version(session: WriteSession, name: str, number: int) -> VersionRow:
    """Lock the name of an adapter or a composition, and return one of its versions.

    Raises:
        UnknownReference: the version does not exist.
    """
    queries.lock_name(session, name)
    table = version_table(session, name, f"{name}@{number}")
    row = queries.version(session, table, name, number)
    if row is None:
        raise unknown(session, f"{name}@{number}")
    return row
