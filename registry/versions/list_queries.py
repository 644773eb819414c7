"""The statements behind lists by pages, of what is visible to the session's caller.

Reads take a `ReadSession`. Whether a name itself is visible is not asked again here
(`registry.versions.resolve.version_table`).
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
    return {found[0]: found[1] for found in session.execute(query)}


def aliases_of(session: ReadSession, names: Iterable[str]) -> Sequence[AliasRow]:
    """Return every alias of these names, by name and alias."""
    query = select(AliasRow).where(AliasRow.name.in_(list(names)))
    return session.scalars(query.order_by(AliasRow.name, AliasRow.alias)).all()


def versions(
    session: ReadSession, table: type[V], name: str, before: int | None, limit: int
) -> Sequence[V]:
    """Return versions of a name with card and report, newest first."""
    query = versions_of(table).where(table.name == name).options(undefer("*"))
    query = query if before is None else query.where(table.number < before)
    return session.scalars(query.order_by(table.number.desc()).limit(limit)).all()


def aliases(session: ReadSession, name: str, after: str, limit: int) -> Sequence[AliasRow]:
    """Return aliases of a name, by alias."""
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
    """Return artifacts with a recipe that is visible to the caller, by digest."""
    query = select(ArtifactRow).where(ArtifactRow.digest > after, _visible_artifact(session))
    return session.scalars(query.order_by(ArtifactRow.digest).limit(limit)).all()


def artifact(session: ReadSession, digest: str) -> ArtifactRow | None:
    """Return one of them."""
    query = select(ArtifactRow).where(ArtifactRow.digest == digest)
    return session.scalar(query.where(_visible_artifact(session)))


def _visible_artifact(session: ReadSession) -> ColumnElement[bool]:
    caller = caller_of(session)
    if caller.namespace is None:
        return true()
    visible = recipe_visible(caller, RecipeRow.digest)
    return exists().where(RecipeRow.artifact == ArtifactRow.digest, visible)


def recipes_making(session: ReadSession, artifact: str) -> Sequence[RecipeRow]:
    """Return the recipes that were built into this artifact, oldest first."""
    query = _lineage(session).where(RecipeRow.artifact == artifact)
    return session.scalars(query.order_by(RecipeRow.created_at, RecipeRow.digest)).all()


def recipes_using(session: ReadSession, digest: str, after: str, limit: int) -> Sequence[RecipeRow]:
    """Return recipes that have this digest among their ingredients, by their own digest."""
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
    """Return the versions that have these contents, `name@number`, oldest first."""
    table = AdapterVersionRow
    query = select(table.digest, table.name, table.number).where(
        table.digest.in_(set(digests)), name_visible(caller_of(session), table.name)
    )
    found = defaultdict[str, tuple[str, ...]](tuple)
    for digest, name, number in session.execute(query.order_by(table.id)):
        found[digest] += (f"{name}@{number}",)
    return found


def bases(session: ReadSession, after: str, limit: int) -> Sequence[BaseRow]:
    """Return bases with their aliases, by name."""
    query = select(BaseRow).options(selectinload(BaseRow.aliases)).where(BaseRow.name > after)
    return session.scalars(query.order_by(BaseRow.name).limit(limit)).all()
