"""The queries of paginated lists, restricted to rows that are visible to the session's caller.

The functions assume that the caller can see the name that they receive; callers check this with
`registry.versions.resolve.version_table`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, Select, exists, select, true
from sqlalchemy.orm import selectinload, undefer

from registry.access.visibility import caller_of, name_visible, recipe_visible
from registry.storage.database import ReadSession
from registry.storage.models import (
    AdapterVersionRow,
    AliasMoveRow,
    AliasRow,
    ArtifactRow,
    BaseRow,
    NameRow,
    RecipeIngredientRow,
    RecipeRow,
)
from registry.types import Visibility
from registry.versions.queries import V, versions_of


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


def versions_with(session: ReadSession, digests: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Map each digest to its visible versions as `name@number`, oldest first."""
    table = AdapterVersionRow
    query = select(table.digest, table.name, table.number).where(
        table.digest.in_(set(digests)), name_visible(caller_of(session), table.name)
    )
    references = defaultdict[str, tuple[str, ...]](tuple)
    for digest, name, number in session.execute(query.order_by(table.id)):
        references[digest] += (f"{name}@{number}",)
    return references


def bases(session: ReadSession, after: str, limit: int) -> Sequence[BaseRow]:
    """Return bases with their aliases, sorted by name."""
    query = select(BaseRow).options(selectinload(BaseRow.aliases)).where(BaseRow.name > after)
    return session.scalars(query.order_by(BaseRow.name).limit(limit)).all()
