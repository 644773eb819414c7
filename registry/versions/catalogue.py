"""Lists by pages: adapters, compositions, their versions, aliases and history, artifacts, bases.

Every list holds what is visible to its caller. Adapters and compositions are listed by name as long
as one version is not retired; versions and moves newest first; the rest by name or digest.
What can be asked for as a model comes as a whole.
Not covered: evaluations, keys, files, jobs and the audit log, which list themselves.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from registry.callers import LOCAL, Caller
from registry.errors import UnknownReference
from registry.paging import Page, key_of, paged
from registry.references import Reference
from registry.storage.database import Database, ReadSession
from registry.storage.models import AdapterVersionRow, AliasRow, ArtifactRow, CompositionVersionRow
from registry.storage.values import value_of
from registry.types import (
    AdapterSummary,
    AdapterVersion,
    Alias,
    AliasMove,
    Artifact,
    Base,
    CompositionSummary,
    CompositionVersion,
    ListedModel,
)
from registry.versions import compositions as recipes
from registry.versions import list_queries, queries, rows
from registry.versions import resolve as resolving
from registry.versions.queries import V

LIMIT = 100


class Catalogue:
    """What there is. Safe to share by threads.

    Every method that takes a cursor raises CursorInvalid when it is not one of that list's, and
    every method that takes a name UnknownReference when no such name is visible to the caller.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def adapters(
        self, *, cursor: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[AdapterSummary]:
        """Return adapters by their newest live versions."""
        after = key_of("adapters", cursor, str) or ""
        with self._database.read(caller) as session:
            found = queries.newest_of_each(session, AdapterVersionRow, after=after, limit=limit + 1)
            lines = {line.name: line for line in _adapter_lines(session, found)}
            return paged(
                "adapters", found, limit, lambda row: row.name, lambda row: lines[row.name]
            )

    def adapter(self, name: str, *, caller: Caller = LOCAL) -> AdapterSummary:
        """Return the line of one adapter, by its newest version, live or not."""
        with self._database.read(caller) as session:
            row = queries.newest(session, _table(session, AdapterVersionRow, name), name)
            if row is None:
                raise resolving.unknown(session, name)
            (line,) = _adapter_lines(session, [row])
            return line

    def compositions(
        self, *, cursor: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[CompositionSummary]:
        """Return compositions by their newest live versions."""
        after = key_of("compositions", cursor, str) or ""
        with self._database.read(caller) as session:
            found = queries.newest_of_each(
                session, CompositionVersionRow, after=after, limit=limit + 1
            )
            lines = {line.name: line for line in _composition_lines(session, found)}
            return paged(
                "compositions", found, limit, lambda row: row.name, lambda row: lines[row.name]
            )

    def composition(self, name: str, *, caller: Caller = LOCAL) -> CompositionSummary:
        """Return the line of one composition, by its newest version, live or not."""
        with self._database.read(caller) as session:
            row = queries.newest(session, _table(session, CompositionVersionRow, name), name)
            if row is None:
                raise resolving.unknown(session, name)
            (line,) = _composition_lines(session, [row])
            return line

    def adapter_versions(
        self, name: str, *, cursor: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[AdapterVersion]:
        """Return the versions of an adapter."""
        before = key_of("versions", cursor, int)
        with self._database.read(caller) as session:
            table = _table(session, AdapterVersionRow, name)
            found = list_queries.versions(session, table, name, before, limit + 1)
            return paged("versions", found, limit, lambda row: row.number, rows.adapter_version)

    def adapter_version(self, reference: Reference, *, caller: Caller = LOCAL) -> AdapterVersion:
        """Return the adapter version that a reference means, whether it is in use or not."""
        with self._database.read(caller) as session:
            row = resolving.adapter_version(session, reference)
            session.refresh(row, ["card", "report"])  # lists leave these out
            return rows.adapter_version(row)

    def composition_versions(
        self, name: str, *, cursor: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[CompositionVersion]:
        """Return the versions of a composition."""
        before = key_of("versions", cursor, int)
        with self._database.read(caller) as session:
            table = _table(session, CompositionVersionRow, name)
            found = list_queries.versions(session, table, name, before, limit + 1)
            return paged("versions", found, limit, lambda row: row.number, rows.composition_version)

    def composition_version(
        self, name: str, number: int, *, caller: Caller = LOCAL
    ) -> CompositionVersion:
        """Return one version of a composition, whether it is in use or not."""
        with self._database.read(caller) as session:
            table = _table(session, CompositionVersionRow, name)
            row = queries.version(session, table, name, number)
            if row is None:
                raise resolving.unknown(session, f"{name}@{number}")
            return rows.composition_version(row)

    def aliases(
        self, name: str, *, cursor: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[Alias]:
        """Return where the aliases of an adapter or a composition point."""
        after = key_of("aliases", cursor, str) or ""
        with self._database.read(caller) as session:
            resolving.version_table(session, name, name)
            found = list_queries.aliases(session, name, after, limit + 1)
            return paged("aliases", found, limit, lambda row: row.alias, partial(value_of, Alias))

    def alias_moves(
        self, name: str, *, cursor: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[AliasMove]:
        """Return where the aliases of an adapter or a composition have pointed."""
        before = key_of("moves", cursor, int)
        with self._database.read(caller) as session:
            resolving.version_table(session, name, name)
            found = list_queries.alias_moves(session, name, before, limit + 1)
            return paged("moves", found, limit, lambda row: row.id, partial(value_of, AliasMove))

    def artifacts(
        self, *, cursor: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[Artifact]:
        """Return what was ever merged, the files of which may be gone."""
        after = key_of("artifacts", cursor, str) or ""
        with self._database.read(caller) as session:
            found = list_queries.artifacts(session, after, limit + 1)
            made = {row.digest: _artifact(session, row) for row in found[:limit]}
            return paged(
                "artifacts", found, limit, lambda row: row.digest, lambda row: made[row.digest]
            )

    def artifact(self, digest: str, *, caller: Caller = LOCAL) -> Artifact:
        """Return one artifact.

        Raises:
            UnknownReference: no artifact that is visible to the caller has this digest.
        """
        with self._database.read(caller) as session:
            row = list_queries.artifact(session, digest)
            if row is None:
                raise UnknownReference(digest)
            return _artifact(session, row)

    def bases(self, *, cursor: str | None = None, limit: int = LIMIT) -> Page[Base]:
        """Return bases."""
        after = key_of("bases", cursor, str) or ""
        with self._database.read() as session:
            found = list_queries.bases(session, after, limit + 1)
            return paged("bases", found, limit, lambda row: row.name, rows.base)

    def chat_templates(self, digests: Iterable[str]) -> Mapping[str, str]:
        """Return the SHA-256 of the chat template of each of these contents that carries one."""
        with self._database.read() as session:
            return queries.chat_templates(session, digests)

    def models(self, *, caller: Caller = LOCAL) -> tuple[ListedModel, ...]:
        """Return every name, and name with alias, that `caller` can use as a model, sorted."""
        with self._database.read(caller) as session:
            models = [
                ListedModel(row.name, "adapter", row.base, row.created_at)
                for row in queries.newest_of_each(session, AdapterVersionRow, in_use=True)
            ] + [
                ListedModel(row.name, "composition", row.recipe.base, row.created_at)
                for row in queries.newest_of_each(session, CompositionVersionRow, in_use=True)
            ]
            aliases = _aliases(queries.aliases(session))
            out_of_use = queries.quarantined(session)
        aliased = [
            replace(model, id=f"{model.id}@{alias}")
            for model in models
            for alias, number in aliases[model.id].items()
            if (model.id, number) not in out_of_use
        ]
        return tuple(sorted([*models, *aliased], key=lambda model: model.id))


def _table(session: ReadSession, table: type[V], name: str) -> type[V]:
    """Return `table` if the versions of `name` are in it.

    Raises:
        UnknownReference: they are not.
    """
    if resolving.version_table(session, name, name) is not table:
        raise resolving.unknown(session, name)
    return table


def _adapter_lines(
    session: ReadSession, found: Iterable[AdapterVersionRow]
) -> Iterable[AdapterSummary]:
    by_name = {row.name: row for row in found}
    visibility = list_queries.visibilities(session, by_name)
    aliases = _aliases(list_queries.aliases_of(session, by_name))
    tags = defaultdict[str, list[str]](list)
    for tag in queries.tags(session, by_name):
        tags[tag.name].append(tag.tag)
    for name, row in by_name.items():
        yield rows.adapter_summary(row, visibility[name], tags[name], aliases[name])


def _composition_lines(
    session: ReadSession, found: Iterable[CompositionVersionRow]
) -> Iterable[CompositionSummary]:
    by_name = {row.name: row for row in found}
    visibility = list_queries.visibilities(session, by_name)
    aliases = _aliases(list_queries.aliases_of(session, by_name))
    for name, row in by_name.items():
        yield rows.composition_summary(row, visibility[name], aliases[name])


def _aliases(found: Iterable[AliasRow]) -> dict[str, dict[str, int]]:
    grouped = defaultdict[str, dict[str, int]](dict)
    for row in found:
        grouped[row.name][row.alias] = row.number
    return grouped


def _artifact(session: ReadSession, row: ArtifactRow) -> Artifact:
    return value_of(Artifact, row, recipes=recipes.makers(session, row.digest))
