"""The queries of lineage: what a content was made of, and what was made of it.

`lineage` has a row for every pair of a content and a content that it was made of, also through
other merges, so that no statement needs recursion. What was made of a quarantined content is out of
use with it: nothing about it is stored, each statement looks.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    ScalarSelect,
    Select,
    String,
    bindparam,
    insert,
    literal,
    literal_column,
    select,
    true,
)
from sqlalchemy.orm import aliased

from registry.access.visibility import caller_of, recipe_visible, version_visible
from registry.callers import Caller
from registry.storage.database import ReadSession, WriteSession
from registry.storage.models import (
    AdapterVersionRow,
    CompositionVersionRow,
    LineageRow,
    RecipeIngredientRow,
    RecipeRow,
    RevisionRow,
)
from registry.types import Reach

Digests = Select[str] | CompoundSelect[str]


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether the session's caller sees what a version was made of, and what of it is out of use.

    `quarantined` is the digest of a quarantined content in its lineage, or None.
    """

    visible: bool
    quarantined: str | None


# A literal: the partial index of quarantined versions serves no statement with a parameter.
_QUARANTINED: ColumnElement[str] = literal_column("'quarantined'", String())
_NOT_MADE = Standing(visible=True, quarantined=None)


# Writing ----------------------------------------------------------------------------------------


def add_sources(session: WriteSession, digest: str, sources: Collection[str]) -> None:
    """Record that a content was made of others; known pairs stay.

    Other writers of lineage wait until the transaction commits, because two that see only half of
    a chain would leave it open.
    """
    session.execute(select(RevisionRow.id).with_for_update())
    row = LineageRow
    above = {*sources, *session.scalars(select(row.ancestor).where(row.digest.in_(sources)))}
    below = {digest, *session.scalars(select(row.digest).where(row.ancestor == digest))}
    stored = session.execute(select(row.digest, row.ancestor).where(row.digest.in_(below)))
    known = {(made, source) for made, source in stored}
    missing = {(made, source) for made in below for source in above if made != source} - known
    if missing:
        pairs = [{"digest": made, "ancestor": source} for made, source in sorted(missing)]
        session.execute(insert(row), pairs)


# Reading ----------------------------------------------------------------------------------------


def ingredients(session: ReadSession, recipe: str) -> set[str]:
    """Return the digests of a recipe's ingredients."""
    item = RecipeIngredientRow
    return set(session.scalars(select(item.digest).where(item.recipe_digest == recipe)))


def standing_of_version(session: ReadSession, version: AdapterVersionRow) -> Standing:
    """Return the standing of a version by its lineage, in one statement, or two for a merge."""
    if session.scalar(_ANY_SOURCE, {"digest": version.digest}) is None:
        return _NOT_MADE
    statement = _of_version(caller_of(session).namespace)
    return _standing(session, statement, {"name": version.name, "digest": version.digest})


def standing_of_artifact(session: ReadSession, digest: str) -> Standing:
    """Return the standing of an artifact with a visible recipe, by its content and lineage."""
    return _standing(session, _OF_ARTIFACT, {"digest": digest})


def standing_of_recipe(session: ReadSession, recipe: str) -> Standing:
    """Return the standing of a recipe by its ingredients and their lineage, in one statement."""
    return _standing(session, _of_recipe(caller_of(session).namespace), {"recipe": recipe})


def _standing(
    session: ReadSession, statement: Select[bool, str], values: Mapping[str, str]
) -> Standing:
    visible, quarantined = session.execute(statement, values).one()
    return Standing(bool(visible), quarantined)


@lru_cache(maxsize=256)
def _of_version(namespace: str | None) -> Select[bool, str]:
    caller = Caller("", namespace=namespace)
    seen = version_visible(caller, bindparam("name", type_=String()), _DIGEST)
    sources = select(LineageRow.ancestor).where(LineageRow.digest == _DIGEST)
    return select(seen, _quarantined(sources))


@lru_cache(maxsize=256)
def _of_recipe(namespace: str | None) -> Select[bool, str]:
    recipe = bindparam("recipe", type_=String())
    item = RecipeIngredientRow
    direct = select(item.digest).where(item.recipe_digest == recipe)
    above = select(LineageRow.ancestor).join(item, item.digest == LineageRow.digest)
    sources = direct.union(above.where(item.recipe_digest == recipe))
    seen = recipe_visible(Caller("", namespace=namespace), recipe)
    return select(seen, _quarantined(sources))


def _quarantined(sources: Digests) -> ScalarSelect[str]:
    version = AdapterVersionRow
    query = select(version.digest).where(version.status == _QUARANTINED)
    return query.where(version.digest.in_(sources)).limit(1).scalar_subquery()


# Building a statement takes longer than running it, and every request runs these.
_DIGEST = bindparam("digest", type_=String())
_ANY_SOURCE = select(LineageRow.ancestor).where(LineageRow.digest == _DIGEST).limit(1)
_OF_ARTIFACT = select(
    true(),
    _quarantined(
        select(LineageRow.ancestor).where(LineageRow.digest == _DIGEST).union(select(_DIGEST))
    ),
)


def _bad_digests() -> Select[str]:
    # Aliases: SQLAlchemy would take a table of the enclosing statement for the same one.
    version = aliased(AdapterVersionRow)
    return select(version.digest).where(version.status == _QUARANTINED)


def _tainted_digests() -> Select[str]:
    row = aliased(LineageRow)
    return select(row.digest).where(row.ancestor.in_(_bad_digests()))


def tainted_versions() -> Select[int]:
    """Select the ids of the versions that were made of a quarantined content.

    By id: an index that a search reads has it, and does not have the digest.
    """
    version = aliased(AdapterVersionRow)
    return select(version.id).where(version.digest.in_(_tainted_digests()))


def tainted_recipes() -> Select[str]:
    """Select the recipes with an ingredient that is quarantined, or was made of such a content."""
    item = aliased(RecipeIngredientRow)
    bad = _bad_digests().union(_tainted_digests())
    return select(item.recipe_digest).where(item.digest.in_(bad))


def newest_usable(session: ReadSession, name: str) -> AdapterVersionRow | None:
    """Return the highest version of an adapter that is in use with all that it was made of."""
    row = AdapterVersionRow
    query = select(row).where(
        row.name == name,
        row.retired_at.is_(None),
        row.status != "quarantined",
        row.id.not_in(tainted_versions()),
        version_visible(caller_of(session), row.name, row.digest),
    )
    return session.scalar(query.order_by(row.number.desc()).limit(1))


def reach(session: ReadSession, digest: str) -> Reach:
    """Return all that has a content or was made of it, in all namespaces, sorted."""
    made = select(LineageRow.digest).where(LineageRow.ancestor == digest)
    version, composed = AdapterVersionRow, CompositionVersionRow
    versions = select(version.name, version.number)
    users = select(RecipeIngredientRow.recipe_digest).where(
        RecipeIngredientRow.digest.in_(made.union(select(literal(digest))))
    )
    compositions = select(composed.name, composed.number).where(composed.recipe_digest.in_(users))
    artifacts = select(RecipeRow.artifact).where(
        RecipeRow.digest.in_(users), RecipeRow.artifact.is_not(None)
    )
    return Reach(
        _references(session, versions.where(version.digest == digest)),
        _references(session, versions.where(version.digest.in_(made), version.digest != digest)),
        _references(session, compositions),
        tuple(sorted({str(artifact) for artifact in session.scalars(artifacts)})),
    )


def _references(session: ReadSession, query: Select[str, int]) -> tuple[str, ...]:
    return tuple(f"{name}@{number}" for name, number in sorted(session.execute(query)))


def licences(session: ReadSession, digests: Iterable[str]) -> Mapping[str, str | None]:
    """Return the licence of each of these contents, or None if no version of it states one."""
    wanted = list(digests)
    stated: dict[str, str | None] = dict.fromkeys(wanted)
    row = AdapterVersionRow
    query = select(row.digest, row.licence).where(row.digest.in_(wanted), row.licence.is_not(None))
    return stated | {row[0]: row[1] for row in session.execute(query)}
