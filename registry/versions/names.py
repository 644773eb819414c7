"""The rules of names, aliases and retirement, inside a transaction that the service has begun.

Covered: what adapters and compositions have in common. Not covered: a version's content
(`registry.service`, `registry.versions.compositions`).
"""

from collections.abc import Mapping, Sequence

from registry.access import audit
from registry.callers import namespace_of
from registry.errors import AccessDenied, NameTaken, VersionInUse
from registry.references import Reference, numbered
from registry.storage.columns import now
from registry.storage.database import WriteSession
from registry.storage.errors import Conflict
from registry.storage.insert import insert
from registry.storage.models import (
    AdapterRow,
    AdapterVersionRow,
    AliasMoveRow,
    AliasRow,
    BaseRow,
    CompositionRow,
    NameRow,
    Table,
)
from registry.types import NameKind, Visibility
from registry.versions import queries
from registry.versions.queries import VersionRow
from registry.versions.resolve import live, unknown, version_table


def claim(session: WriteSession, owner: AdapterRow | CompositionRow | BaseRow, actor: str) -> bool:
    """Give a name to `owner`, lock it, and say whether it is new.

    What is in a namespace begins as private to it; bases belong to nobody.

    Raises:
        NameTaken: the name belongs to something of another kind.
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
        taken_by = queries.lock_name(session, owner.name)
        if taken_by is not None and taken_by != kind:
            raise NameTaken(owner.name, taken_by) from conflict
        return False
    return True


_KINDS: Mapping[type[Table], NameKind] = {
    AdapterRow: "adapter",
    BaseRow: "base",
    CompositionRow: "composition",
}


def move_alias(session: WriteSession, row: VersionRow, alias: str, actor: str) -> AliasRow:
    """Point an alias of a version's name at that version and write it into the history.

    An alias that points there already stays as it is. The name must be locked.

    Raises:
        VersionRetired: as it says.
    """
    live(row)
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
    return current


def set_visibility(session: WriteSession, name: str, visibility: Visibility, actor: str) -> None:
    """Publish an adapter or a composition, or make it private to its namespace again.

    Raises:
        UnknownReference: there is none of this name.
        AccessDenied: a name without a namespace cannot be private.
    """
    queries.lock_name(session, name)
    version_table(session, name, name)
    if visibility == "private" and namespace_of(name) is None:
        raise AccessDenied(f"{name} has no namespace that it could be private to")
    queries.set_visibility(session, name, visibility)
    queries.advance_revision(session)  # a search for others finds something else now
    audit.record(session, actor, "visibility.changed", name, visibility=visibility)


def locked_version(session: WriteSession, name: str, number: int) -> VersionRow:
    """Return a version of an adapter or a composition with its name locked.

    Raises:
        UnknownReference: there is no such version.
    """
    queries.lock_name(session, name)
    table = version_table(session, name, f"{name}@{number}")
    row = queries.version(session, table, name, number)
    if row is None:
        raise unknown(session, f"{name}@{number}")
    return row


def retire(session: WriteSession, reference: Reference, actor: str) -> None:
    """Retire one version, which a reference names by its number; once is enough.

    Raises:
        ReferenceInvalid: it is not by number.
        UnknownReference: there is no such version.
        VersionInUse: an alias points at it, or a composition in use is made of it.
    """
    row = locked_version(session, *numbered(reference))
    if row.retired_at is None:
        _refuse_in_use(session, row)
        row.retired_at, row.retired_by = now(), actor
        audit.record(session, actor, "version.retired", str(reference))
        queries.advance_revision(session)


def _refuse_in_use(session: WriteSession, row: VersionRow) -> None:
    aliases = [a.alias for a in queries.aliases(session, row.name) if a.number == row.number]
    made_of_it: Sequence[tuple[str, int]] = ()
    if isinstance(row, AdapterVersionRow) and not queries.has_twin(session, row):
        made_of_it = queries.compositions_of(session, row.digest)
    known = queries.visible_names(session, {name for name, _ in made_of_it})
    shown = [f"{name}@{number}" for name, number in made_of_it if name in known]
    if aliases or made_of_it:
        raise VersionInUse(row.name, row.number, aliases, shown, len(made_of_it) - len(shown))
