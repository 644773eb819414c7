"""The queries of paginated lists, restricted to rows that are visible to the session's caller.

The functions assume that the caller can see the name that they receive; callers check this with
`registry.versions.resolve.version_table`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, exists, or_, select, true
from sqlalchemy.orm import load_only, selectinload, undefer

from registry.access.visibility import caller_of, name_visible, recipe_visible, version_visible
from registry.storage.database import ReadSession
from registry.storage.models import (
    AdapterVersionRow,
    AliasMoveRow,
    AliasRow,
    ArtifactRow,
    BaseRow,
    CompositionVersionRow,
    ImportRow,
    NameRow,
    RecipeIngredientRow,
    RecipeRow,
)
from registry.types import NameKind, Visibility
from registry.versions.lineage_queries import tainted_recipes, tainted_versions
from registry.versions.queries import V, newest_numbers, versions_of


def visibilities(session: ReadSession, names: Iterable[str]) -> Mapping[str, Visibility]:
    """Return the visibility of each of these names."""
    query = select(NameRow.name, NameRow.visibility).where(NameRow.name.in_(list(names)))
    return {row[0]: row[1] for row in session.execute(query)}


def aliases_of(session: ReadSession, names: Iterable[str]) -> Sequence[AliasRow]:
    """Return all aliases of these names, sorted by name and alias."""
    query = select(AliasRow).where(AliasRow.name.in_(list(names)))
    return session.scalars(query.order_by(AliasRow.name, AliasRow.alias)).all()


def versions(
    session: ReadSession, table: type[V], name: str, before: int | None, limit: int
) -> Sequence[V]:
    """Return the versions of a name with card and report, newest first."""
    query = versions_of(table).where(table.name == name).options(undefer("*"))
    query = query if before is None else query.where(table.number < before)
    return session.scalars(query.order_by(table.number.desc()).limit(limit)).all()


def admitted_versions(
    session: ReadSession, before: int | None, limit: int
) -> Sequence[tuple[AdapterVersionRow, Any]]:
    """Return visible versions with ids below `before` and their findings, newest first."""
    row = AdapterVersionRow
    columns = (
        row.name, row.number, row.source, row.digest, row.status, row.retired_at, row.created_at,
        row.created_by,
    )  # fmt: skip
    # The rest of a report is long.
    query = select(row, row.report["findings"]).options(load_only(*columns, raiseload=True))
    query = query.where(version_visible(caller_of(session), row.name, row.digest))
    query = query if before is None else query.where(row.id < before)
    rows = session.execute(query.order_by(row.id.desc()).limit(limit))
    return [(version, findings) for version, findings in rows]


def refused_imports(
    session: ReadSession, after: tuple[datetime, str, str] | None, limit: int
) -> Sequence[ImportRow]:
    """Return refused imports under the caller's names, newest first, then by source and name.

    `after` has the moment, the source and the name of the last one before them.
    """
    row = ImportRow
    query = select(row).where(row.digest.is_(None), name_visible(caller_of(session), row.name))
    if after is not None:
        moment, source, name = after
        later = or_(row.source > source, and_(row.source == source, row.name > name))
        query = query.where(or_(row.finished_at < moment, and_(row.finished_at == moment, later)))
    order = row.finished_at.desc(), row.source, row.name
    return session.scalars(query.order_by(*order).limit(limit)).all()


def aliases(session: ReadSession, name: str, after: str, limit: int) -> Sequence[AliasRow]:
    """Return the aliases of a name, sorted by alias."""
    query = select(AliasRow).where(AliasRow.name == name, AliasRow.alias > after)
    return session.scalars(query.order_by(AliasRow.alias).limit(limit)).all()


def alias_moves(
    session: ReadSession, name: str, before: int | None, limit: int
) -> Sequence[AliasMoveRow]:
    """Return the history of a name's aliases, newest first."""
    query = select(AliasMoveRow).where(AliasMoveRow.name == name)
    query = query if before is None else query.where(AliasMoveRow.id < before)
    return session.scalars(query.order_by(AliasMoveRow.id.desc()).limit(limit)).all()


def artifacts(session: ReadSession, after: str, limit: int) -> Sequence[ArtifactRow]:
    """Return artifacts with a recipe that is visible to the caller, sorted by digest."""
    query = select(ArtifactRow).where(ArtifactRow.digest > after, _visible_artifact(session))
    return session.scalars(query.order_by(ArtifactRow.digest).limit(limit)).all()


def artifact(session: ReadSession, digest: str) -> ArtifactRow | None:
    """Return one artifact with a recipe that is visible to the caller, or None."""
    query = select(ArtifactRow).where(ArtifactRow.digest == digest)
    return session.scalar(query.where(_visible_artifact(session)))


def _visible_artifact(session: ReadSession) -> ColumnElement[bool]:
    caller = caller_of(session)
    if caller.namespace is None:
        return true()
    visible = recipe_visible(caller, RecipeRow.digest)
    return exists().where(RecipeRow.artifact == ArtifactRow.digest, visible)


def recipes_making(session: ReadSession, artifact: str) -> Sequence[RecipeRow]:
    """Return the recipes that produced this artifact, oldest first."""
    query = _lineage(session).where(RecipeRow.artifact == artifact)
    return session.scalars(query.order_by(RecipeRow.created_at, RecipeRow.digest)).all()


def recipes_using(session: ReadSession, digest: str, after: str, limit: int) -> Sequence[RecipeRow]:
    """Return the recipes with this digest as an ingredient, sorted by their own digest."""
    using = select(RecipeIngredientRow.recipe_digest).where(RecipeIngredientRow.digest == digest)
    query = _lineage(session).where(RecipeRow.digest.in_(using), RecipeRow.digest > after)
    return session.scalars(query.order_by(RecipeRow.digest).limit(limit)).all()


def _lineage(session: ReadSession) -> Select[RecipeRow]:
    return (
        select(RecipeRow)
        .where(recipe_visible(caller_of(session), RecipeRow.digest))
        .options(selectinload(RecipeRow.ingredients), selectinload(RecipeRow.published))
    )


def compositions_with(
    session: ReadSession, artifacts: Collection[str]
) -> Sequence[Row[str, str | None, int | None]]:
    """Return (artifact, name, number) of the live compositions that these artifacts answer for.

    Artifacts and names are visible ones; an artifact without such a name has None in its place.
    """
    caller, version = caller_of(session), CompositionVersionRow
    named = and_(
        version.recipe_digest == RecipeRow.digest,
        version.retired_at.is_(None),
        name_visible(caller, version.name),
    )
    query = select(ArtifactRow.digest, version.name, version.number)
    query = query.join(RecipeRow, RecipeRow.artifact == ArtifactRow.digest)
    query = query.outerjoin(version, named).where(
        ArtifactRow.digest.in_(artifacts), recipe_visible(caller, RecipeRow.digest)
    )
    return session.execute(query.order_by(ArtifactRow.digest, version.id)).all()


def versions_with(session: ReadSession, digests: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Map each digest to its visible versions as `name@number`, oldest first."""
    table = AdapterVersionRow
    query = select(table.digest, table.name, table.number).where(
        table.digest.in_(set(digests)),
        version_visible(caller_of(session), table.name, table.digest),
    )
    references = defaultdict[str, tuple[str, ...]](tuple)
    for digest, name, number in session.execute(query.order_by(table.id)):
        references[digest] += (f"{name}@{number}",)
    return references


def bases(session: ReadSession, after: str, limit: int) -> Sequence[BaseRow]:
    """Return bases with their aliases, sorted by name."""
    query = select(BaseRow).options(selectinload(BaseRow.aliases)).where(BaseRow.name > after)
    return session.scalars(query.order_by(BaseRow.name).limit(limit)).all()


def models(session: ReadSession, base: str | None) -> Sequence[tuple[str, NameKind, str, datetime]]:
    """Return (name, kind, base, creation) of the newest version in use of each visible name.

    These are columns instead of rows: the list has every name of a registry.
    """
    adapter, composition = AdapterVersionRow, CompositionVersionRow
    caller = caller_of(session)
    newest = newest_numbers(
        adapter,
        adapter.status != "quarantined",
        adapter.id.not_in(tainted_versions()),
        version_visible(caller, adapter.name, adapter.digest),
    ).subquery()
    adapters = select(adapter.name, adapter.base, adapter.created_at).join(
        newest, (newest.c.name == adapter.name) & (newest.c.number == adapter.number)
    )
    newest = newest_numbers(
        composition,
        composition.recipe_digest.not_in(tainted_recipes()),
        name_visible(caller, composition.name),
        recipe_visible(caller, composition.recipe_digest),
    ).subquery()
    compositions = (
        select(composition.name, RecipeRow.base, composition.created_at)
        .join(newest, (newest.c.name == composition.name) & (newest.c.number == composition.number))
        .join(RecipeRow, RecipeRow.digest == composition.recipe_digest)
    )
    if base is not None:
        adapters = adapters.where(adapter.base == base)
        compositions = compositions.where(RecipeRow.base == base)
    return [
        *((name, "adapter", of, at) for name, of, at in session.execute(adapters)),
        *((name, "composition", of, at) for name, of, at in session.execute(compositions)),
    ]


def aliases_by_name(session: ReadSession) -> Mapping[str, Sequence[tuple[str, int]]]:
    """Return (alias, number) of all aliases by name, whether or not the name is visible."""
    grouped = defaultdict[str, list[tuple[str, int]]](list)
    for name, alias, number in session.execute(
        select(AliasRow.name, AliasRow.alias, AliasRow.number)
    ):
        grouped[name].append((alias, number))
    return grouped


def names_with_alias(session: ReadSession, alias: str, limit: int) -> Sequence[str]:
    """Return the names with an alias, visible or not, the last moved first."""
    query = select(AliasRow.name).where(AliasRow.alias == alias)
    return session.scalars(
        query.order_by(AliasRow.moved_at.desc(), AliasRow.name).limit(limit)
    ).all()


def out_of_use(session: ReadSession) -> set[tuple[str, int]]:
    """Return (name, number) of all versions that are quarantined or were made of such a content."""
    version, composed = AdapterVersionRow, CompositionVersionRow
    adapters = select(version.name, version.number).where(
        or_(version.status == "quarantined", version.id.in_(tainted_versions()))
    )
    compositions = select(composed.name, composed.number).where(
        composed.recipe_digest.in_(tainted_recipes())
    )
    return {(name, number) for name, number in session.execute(adapters.union(compositions))}
