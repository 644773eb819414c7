"""The queries for names, bases, versions, imports, aliases, recipes and revisions.

Reading functions take a `ReadSession`, writing functions a `WriteSession`, and none of them
commits. They return rows; `registry.versions.rows` converts rows to values.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias, TypeVar

from sqlalchemy import ColumnElement, Select, bindparam, func, select, update
from sqlalchemy import insert as insert_into
from sqlalchemy.orm import joinedload, load_only, selectinload, undefer

from registry.access.visibility import caller_of, name_visible, recipe_visible, version_visible
from registry.callers import Caller
from registry.storage.database import ReadSession, WriteSession
from registry.storage.errors import Conflict
from registry.storage.insert import insert
from registry.storage.models import (
    AdapterTagRow,
    AdapterVersionRow,
    AliasRow,
    BaseAliasRow,
    BaseRow,
    CompositionVersionRow,
    ImportRow,
    ModuleEndingRow,
    NameRow,
    RecipeIngredientRow,
    RecipeRow,
    RevisionRow,
)
from registry.types import NameKind, Visibility

VersionRow: TypeAlias = AdapterVersionRow | CompositionVersionRow
V = TypeVar("V", bound=VersionRow)


# Writing ----------------------------------------------------------------------------------------


def lock_name(session: WriteSession, name: str) -> NameKind | None:
    """Return the kind of a name, and lock the name until the transaction ends."""
    return session.scalar(select(NameRow.kind).where(NameRow.name == name).with_for_update())


def next_number(session: WriteSession, table: type[VersionRow], name: str) -> int:
    """Return the number of the next version. The caller must lock the name."""
    return (session.scalar(select(func.max(table.number)).where(table.name == name)) or 0) + 1


def add_ingredients(
    session: WriteSession, recipe: str, ingredients: Sequence[tuple[str, float]]
) -> None:
    """Add the (digest, weight) of a new recipe's ingredients, in the recipe's order."""
    rows = [
        {"recipe_digest": recipe, "position": position, "digest": digest, "weight": weight}
        for position, (digest, weight) in enumerate(ingredients)
    ]
    if rows:
        session.execute(insert_into(RecipeIngredientRow), rows)


def claim_artifact(session: WriteSession, recipe: str, artifact: str, replacing: str | None) -> str:
    """Set a recipe's artifact if it is still `replacing`, and return the current artifact."""
    session.execute(
        update(RecipeRow)
        .where(RecipeRow.digest == recipe, RecipeRow.artifact.is_not_distinct_from(replacing))
        .values(artifact=artifact),
        execution_options={"synchronize_session": False},
    )
    return str(session.scalar(select(RecipeRow.artifact).where(RecipeRow.digest == recipe)))


# Names and bases --------------------------------------------------------------------------------


def kind_of(session: ReadSession, name: str) -> NameKind | None:
    """Return the kind of a name, whether or not the session's caller can see it."""
    return session.scalar(select(NameRow.kind).where(NameRow.name == name))


def visible_kind_of(session: ReadSession, name: str) -> NameKind | None:
    """Return the kind of a name, or None if the session's caller cannot see it."""
    query = select(NameRow.kind).where(NameRow.name == name)
    return session.scalar(query.where(name_visible(caller_of(session), NameRow.name)))


def visible_names(session: ReadSession, names: Iterable[str]) -> set[str]:
    """Return the names that are visible to the session's caller."""
    query = select(NameRow.name).where(NameRow.name.in_(list(names)))
    return set(session.scalars(query.where(name_visible(caller_of(session), NameRow.name))))


def set_visibility(session: WriteSession, name: str, visibility: Visibility) -> None:
    """Set the visibility of a name."""
    session.execute(update(NameRow).where(NameRow.name == name).values(visibility=visibility))


def bases(session: ReadSession) -> Sequence[BaseRow]:
    """Return all bases with their aliases, sorted by name."""
    query = select(BaseRow).options(selectinload(BaseRow.aliases)).order_by(BaseRow.name)
    return session.scalars(query).all()


def base_by_key(session: ReadSession, key: str) -> BaseRow | None:
    """Return the base with this key; the keys of a base include that of its own name."""
    query = select(BaseRow).options(selectinload(BaseRow.aliases)).join(BaseAliasRow)
    return session.scalar(query.where(BaseAliasRow.key == key))


def chat_templates(session: ReadSession, digests: Iterable[str]) -> Mapping[str, str]:
    """Return the hash of the chat template of each of these contents that carries one."""
    row = AdapterVersionRow
    query = select(row.digest, row.chat_template).where(
        row.digest.in_(list(digests)), row.chat_template.is_not(None)
    )
    return {digest: str(template) for digest, template in session.execute(query)}


def set_chat_template(session: WriteSession, base: str, chat_template: str) -> None:
    """Store the hash of a base's chat template; it replaces an earlier hash."""
    session.execute(update(BaseRow).where(BaseRow.name == base).values(chat_template=chat_template))


def has_base(session: ReadSession, name: str) -> bool:
    """Return whether a base has exactly this name."""
    return session.scalar(select(BaseRow.name).where(BaseRow.name == name)) is not None


def base_shapes(session: ReadSession, name: str) -> Mapping[str, Sequence[int]] | None:
    """Return {module: [d_out, d_in]} of the base with exactly this name."""
    return session.scalar(select(BaseRow.shapes).where(BaseRow.name == name))


def owner_of_key(session: ReadSession, key: str) -> str | None:
    """Return the name of the base with this key."""
    return session.scalar(select(BaseAliasRow.base).where(BaseAliasRow.key == key))


# Versions ---------------------------------------------------------------------------------------


def table_of(kind: NameKind) -> type[VersionRow]:
    """Return the table that contains the versions of an adapter or a composition."""
    return AdapterVersionRow if kind == "adapter" else CompositionVersionRow


def versions_of(table: type[V]) -> Select[V]:
    """Select from a table of versions; versions of compositions load their recipes."""
    if issubclass(table, CompositionVersionRow):
        return select(table).options(joinedload(CompositionVersionRow.recipe))
    return select(table)


def version(session: ReadSession, table: type[V], name: str, number: int) -> V | None:
    """Return one version, retired or not, or None."""
    return session.scalar(versions_of(table).where(table.name == name, table.number == number))


def newest(session: ReadSession, table: type[V], name: str) -> V | None:
    """Return the highest version that is in use, else that is not retired, else of all."""
    query = versions_of(table).where(table.name == name).order_by(table.retired_at.is_not(None))
    if issubclass(table, AdapterVersionRow):
        query = query.order_by(AdapterVersionRow.status == "quarantined")
    return session.scalar(query.order_by(table.number.desc()).limit(1))


def version_by_content(session: ReadSession, table: type[V], name: str, digest: str) -> V:
    """Return the version of a name with this content, card and report. It must exist."""
    query = versions_of(table).where(table.name == name, table.content == digest)
    return session.scalars(query.options(undefer("*"))).one()


def adapter_version_by_digest(session: ReadSession, digest: str) -> AdapterVersionRow | None:
    """Return the oldest visible version with this digest; prefer one that is not retired."""
    return session.scalar(_by_digest(caller_of(session).namespace), {"digest": digest})


@lru_cache(maxsize=256)  # building a statement takes longer than running it
def _by_digest(namespace: str | None) -> Select[AdapterVersionRow]:
    row, caller = AdapterVersionRow, Caller("", namespace=namespace)
    query = select(row).where(
        row.digest == bindparam("digest"), version_visible(caller, row.name, row.digest)
    )
    return query.order_by(row.retired_at.is_not(None), row.id).limit(1)


def has_module_set(session: ReadSession, module_set: str) -> bool:
    """Return whether the endings of a set of modules are stored."""
    row = ModuleEndingRow
    query = select(row.module_set).where(row.module_set == module_set).limit(1)
    return session.scalar(query) is not None


def with_digest(session: ReadSession, digest: str) -> Sequence[AdapterVersionRow]:
    """Return all versions with this content under any name, oldest first."""
    query = select(AdapterVersionRow).where(AdapterVersionRow.digest == digest)
    return session.scalars(query.order_by(AdapterVersionRow.id)).all()


def has_twin(session: ReadSession, row: AdapterVersionRow) -> bool:
    """Return whether another version that is not retired has the same content."""
    twin = AdapterVersionRow
    query = select(twin.id).where(twin.digest == row.digest, twin.id != row.id)
    return session.scalar(query.where(twin.retired_at.is_(None)).limit(1)) is not None


def compositions_of(session: ReadSession, digest: str) -> Sequence[tuple[str, int]]:
    """Return (name, number) of the live compositions that have this digest as an ingredient."""
    row, used = CompositionVersionRow, RecipeIngredientRow
    query = select(row.name, row.number).join(used, used.recipe_digest == row.recipe_digest)
    query = query.where(used.digest == digest, row.retired_at.is_(None)).distinct()
    versions = session.execute(query.order_by(row.name, row.number))
    return [(name, number) for name, number in versions]


def newest_numbers(table: type[V], *conditions: ColumnElement[bool]) -> Select[str, int]:
    """Select (name, number) of the highest version of each name that fulfils the conditions.

    Retired versions are skipped.
    """
    newest = select(table.name, func.max(table.number).label("number")).group_by(table.name)
    return newest.where(table.retired_at.is_(None), *conditions)


def newest_of_each(
    session: ReadSession,
    table: type[V],
    *,
    after: str = "",
    limit: int | None = None,
) -> Sequence[V]:
    """Return the highest version that is not retired of each visible name after `after`.

    Only the columns that a list of adapters shows are loaded, because modules and reports are long.
    """
    top = newest_numbers(table, table.name > after).subquery()
    is_top = (top.c.name == table.name) & (top.c.number == table.number)
    query = versions_of(table).join(top, is_top)
    if issubclass(table, AdapterVersionRow):
        query = query.options(load_only(*_LISTED_COLUMNS, raiseload=True))
    query = query.where(name_visible(caller_of(session), table.name)).order_by(table.name)
    return session.scalars(query.limit(limit)).all()


_LISTED_COLUMNS = (
    AdapterVersionRow.name,
    AdapterVersionRow.number,
    AdapterVersionRow.digest,
    AdapterVersionRow.base,
    AdapterVersionRow.rank,
    AdapterVersionRow.bytes,
    AdapterVersionRow.norm,
    AdapterVersionRow.status,
    AdapterVersionRow.retired_at,
    AdapterVersionRow.created_at,
)


# Imports ----------------------------------------------------------------------------------------


def import_of(session: ReadSession, source: str, name: str) -> ImportRow | None:
    """Return the stored outcome of importing a source under a name, or None."""
    return session.get(ImportRow, (source, name))


def save_import(session: WriteSession, row: ImportRow) -> None:
    """Store the outcome of an import; it replaces an earlier outcome."""
    existing = session.get(ImportRow, (row.source, row.name), with_for_update=True)
    if existing is None:
        try:
            return insert(session, row)
        except Conflict:  # a concurrent import of the same source was faster
            pass
    session.merge(row)
    return None


# Aliases ----------------------------------------------------------------------------------------


def alias(session: ReadSession, name: str, text: str) -> AliasRow | None:
    """Return an alias of a name, or None."""
    return session.get(AliasRow, (name, text))


def aliases(session: ReadSession, name: str | None = None) -> Sequence[AliasRow]:
    """Return the aliases of one name or of all names, sorted by name and alias."""
    query = select(AliasRow).order_by(AliasRow.name, AliasRow.alias)
    return session.scalars(query if name is None else query.where(AliasRow.name == name)).all()


def references_in_use(session: ReadSession, limit: int) -> list[str]:
    """Return up to `limit` visible names, except those of bases, and `limit` `name@alias`."""
    caller = caller_of(session)
    names = select(NameRow.name).where(NameRow.kind != "base", name_visible(caller, NameRow.name))
    pairs = select(AliasRow.name, AliasRow.alias).where(name_visible(caller, AliasRow.name))
    ordered = pairs.order_by(AliasRow.name, AliasRow.alias).limit(limit)
    aliased = [f"{name}@{text}" for name, text in session.execute(ordered)]
    return [*session.scalars(names.order_by(NameRow.name).limit(limit)), *aliased]


# Recipes, artifacts, lineage --------------------------------------------------------------------


def recipe(session: ReadSession, digest: str) -> RecipeRow | None:
    """Return a recipe, or None."""
    return session.get(RecipeRow, digest)


def recipe_of_artifact(session: ReadSession, artifact: str) -> RecipeRow | None:
    """Return the oldest visible recipe that produced this artifact, or None."""
    return session.scalar(_of_artifact(caller_of(session).namespace), {"artifact": artifact})


@lru_cache(maxsize=256)
def _of_artifact(namespace: str | None) -> Select[RecipeRow]:
    visible = recipe_visible(Caller("", namespace=namespace), RecipeRow.digest)
    query = select(RecipeRow).where(RecipeRow.artifact == bindparam("artifact"), visible)
    return query.order_by(RecipeRow.created_at, RecipeRow.digest).limit(1)


def known_digests(session: ReadSession, digests: Iterable[str]) -> set[str]:
    """Return the digests that belong to a visible version or artifact."""
    requested, caller = set(digests), caller_of(session)
    version, row = AdapterVersionRow, RecipeRow
    versions = select(version.digest).where(
        version.digest.in_(requested), version_visible(caller, version.name, version.digest)
    )
    artifacts = select(row.artifact).where(
        row.artifact.in_(requested), recipe_visible(caller, row.digest)
    )
    return {*session.scalars(versions), *(str(digest) for digest in session.scalars(artifacts))}


def digests_starting(session: ReadSession, text: str) -> set[str]:
    """Return the digests of visible versions and artifacts that start with `text`."""
    caller = caller_of(session)
    row = AdapterVersionRow
    versions = select(row.digest).where(
        row.digest.startswith(text), version_visible(caller, row.name, row.digest)
    )
    artifacts = select(RecipeRow.artifact).where(
        RecipeRow.artifact.startswith(text), recipe_visible(caller, RecipeRow.digest)
    )
    return {*session.scalars(versions), *(str(digest) for digest in session.scalars(artifacts))}


def revision(session: ReadSession) -> int:
    """Return the current revision: it counts the changes to what can be found or listed."""
    return session.scalars(select(RevisionRow.number)).one()


def advance_revision(session: WriteSession) -> int:
    """Increment the revision and return it.

    Other writers wait until the transaction commits, so revisions become visible in order. Call
    this function late in a transaction to keep the wait short.
    """
    change = update(RevisionRow).values(number=RevisionRow.number + 1)
    return session.scalars(change.returning(RevisionRow.number)).one()


def tags(session: ReadSession, names: Iterable[str]) -> Sequence[AdapterTagRow]:
    """Return the tags of these adapters, sorted by name and tag."""
    query = select(AdapterTagRow).where(AdapterTagRow.name.in_(list(names)))
    return session.scalars(query.order_by(AdapterTagRow.name, AdapterTagRow.tag)).all()
