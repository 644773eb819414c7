"""Paginated lists of adapters, compositions, versions, aliases, alias moves, artifacts and bases.

A list contains the rows that are visible to its caller. Adapters and compositions with at least one
version that is not retired are listed by name. Versions and alias moves are listed newest first,
artifacts by digest. The list of models is not paginated.
Evaluations, keys, files, jobs and the audit log have lists in their own modules.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
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
from registry.versions.queries import V, VersionRow

LIMIT = 100


class Catalogue:
    """Lists of a registry's contents. Threads may share one instance.

    A method raises CursorInvalid if the cursor does not belong to its list, and UnknownReference if
    the name is not visible to the caller.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def adapters(
        self, *, cursor: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[AdapterSummary]:
        """Return adapters, each with its newest live version."""
        after = key_of("adapters", cursor, str) or ""
        with self._database.read(caller) as session:
            newest = queries.newest_of_each(
                session, AdapterVersionRow, after=after, limit=limit + 1
            )
            summaries = {item.name: item for item in _adapter_summaries(session, newest)}
            return paged(
                "adapters", newest, limit, lambda row: row.name, lambda row: summaries[row.name]
            )

    def adapter(self, name: str, *, caller: Caller = LOCAL) -> AdapterSummary:
        """Return the summary of one adapter with its newest version, live or not."""
        with self._database.read(caller) as session:
            row = queries.newest(session, _table(session, AdapterVersionRow, name), name)
            if row is None:
                raise resolving.unknown(session, name)
            (summary,) = _adapter_summaries(session, [row])
            return summary

    def compositions(
        self, *, cursor: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[CompositionSummary]:
        """Return compositions, each with its newest live version."""
        after = key_of("compositions", cursor, str) or ""
        with self._database.read(caller) as session:
            newest = queries.newest_of_each(
                session, CompositionVersionRow, after=after, limit=limit + 1
            )
            summaries = {item.name: item for item in _composition_summaries(session, newest)}
            return paged(
                "compositions", newest, limit, lambda row: row.name, lambda row: summaries[row.name]
            )

    def composition(self, name: str, *, caller: Caller = LOCAL) -> CompositionSummary:
        """Return the summary of one composition with its newest version, live or not."""
        with self._database.read(caller) as session:
            row = queries.newest(session, _table(session, CompositionVersionRow, name), name)
            if row is None:
                raise resolving.unknown(session, name)
            (summary,) = _composition_summaries(session, [row])
            return summary

    def adapter_versions(
        self, name: str, *, cursor: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[AdapterVersion]:
        """Return the versions of an adapter."""
        before = key_of("versions", cursor, int)
        with self._database.read(caller) as session:
            table = _table(session, AdapterVersionRow, name)
            batch = list_queries.versions(session, table, name, before, limit + 1)
            return paged("versions", batch, limit, lambda row: row.number, rows.adapter_version)

    def adapter_version(self, reference: Reference, *, caller: Caller = LOCAL) -> AdapterVersion:
        """Return the adapter version that a reference resolves to, in use or not."""
        with self._database.read(caller) as session:
            row = resolving.adapter_version(session, reference)
            session.refresh(row, ["card", "report"])  # deferred columns
            return rows.adapter_version(row)

    def models_of(
        self, digests: Collection[str], *, caller: Caller = LOCAL
    ) -> dict[str, tuple[str, ...]]:
        """Return the versions with each of these contents, and the compositions of an artifact.

        A digest that the caller does not see is left out; an artifact without a name has none.
        """
        with self._database.read(caller) as session:
            versions = list_queries.versions_with(session, digests)
            found = {digest: versions[digest] for digest in digests if digest in versions}
            for artifact, name, number in list_queries.compositions_with(session, digests):
                own = found.setdefault(artifact, ())
                found[artifact] = own if name is None else (*own, f"{name}@{number}")
            return found

    def named_version(
        self, reference: Reference, *, caller: Caller = LOCAL
    ) -> AdapterVersion | CompositionVersion | None:
        """Return the version that a name resolves to, in use or not; None for another digest."""
        with self._database.read(caller) as session:
            row: VersionRow | None
            if reference.name is None:
                row = queries.adapter_version_by_digest(session, str(reference.digest))
            else:
                row = resolving.named(session, reference, reference.name)
            if isinstance(row, CompositionVersionRow):
                return rows.composition_version(row)
            if row is None:
                return None
            session.refresh(row, ["card", "report"])  # deferred columns
            return rows.adapter_version(row)

    def composition_versions(
        self, name: str, *, cursor: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[CompositionVersion]:
        """Return the versions of a composition."""
        before = key_of("versions", cursor, int)
        with self._database.read(caller) as session:
            table = _table(session, CompositionVersionRow, name)
            batch = list_queries.versions(session, table, name, before, limit + 1)
            return paged("versions", batch, limit, lambda row: row.number, rows.composition_version)

    def composition_version(
        self, name: str, number: int, *, caller: Caller = LOCAL
    ) -> CompositionVersion:
        """Return one version of a composition, in use or not."""
        with self._database.read(caller) as session:
            table = _table(session, CompositionVersionRow, name)
            row = queries.version(session, table, name, number)
            if row is None:
                raise resolving.unknown(session, f"{name}@{number}")
            return rows.composition_version(row)

    def aliases(
        self, name: str, *, cursor: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[Alias]:
        """Return the aliases of an adapter or a composition."""
        after = key_of("aliases", cursor, str) or ""
        with self._database.read(caller) as session:
            resolving.version_table(session, name, name)
            aliases = list_queries.aliases(session, name, after, limit + 1)
            return paged("aliases", aliases, limit, lambda row: row.alias, partial(value_of, Alias))

    def alias_moves(
        self, name: str, *, cursor: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[AliasMove]:
        """Return the history of the aliases of an adapter or a composition."""
        before = key_of("moves", cursor, int)
        with self._database.read(caller) as session:
            resolving.version_table(session, name, name)
            moves = list_queries.alias_moves(session, name, before, limit + 1)
            return paged("moves", moves, limit, lambda row: row.id, partial(value_of, AliasMove))

    def artifacts(
        self, *, cursor: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[Artifact]:
        """Return all recorded artifacts, including those whose files were removed."""
        after = key_of("artifacts", cursor, str) or ""
        with self._database.read(caller) as session:
            artifacts = list_queries.artifacts(session, after, limit + 1)
            return paged(
                "artifacts", artifacts, limit, lambda row: row.digest, partial(_artifact, session)
            )

    def artifact(self, digest: str, *, caller: Caller = LOCAL) -> Artifact:
        """Return one artifact by its digest, or by the first 12 or more digits.

        Raises:
            DigestInvalid: `digest` is malformed.
            ReferenceInvalid: several digests begin with `digest`.
            UnknownReference: no artifact with this digest is visible to the caller.
        """
        with self._database.read(caller) as session:
            row = list_queries.artifact(session, resolving.whole_digest(session, digest))
            if row is None:
                raise UnknownReference(digest)
            return _artifact(session, row)

    def bases(self, *, cursor: str | None = None, limit: int = LIMIT) -> Page[Base]:
        """Return the bases of the registry."""
        after = key_of("bases", cursor, str) or ""
        with self._database.read() as session:
            bases = list_queries.bases(session, after, limit + 1)
            return paged("bases", bases, limit, lambda row: row.name, rows.base)

    def chat_templates(self, digests: Iterable[str]) -> Mapping[str, str]:
        """Return the SHA-256 of the chat template of each of these contents that carries one."""
        with self._database.read() as session:
            return queries.chat_templates(session, digests)

    def aliased(self, alias: str, *, limit: int = LIMIT) -> tuple[str, ...]:
        """Return `name@alias` of every name with this alias, the last moved first."""
        with self._database.read() as session:
            names = list_queries.names_with_alias(session, alias, limit)
        return tuple(f"{name}@{alias}" for name in names)

    def models(self, *, base: str | None = None, caller: Caller = LOCAL) -> tuple[ListedModel, ...]:
        """Return every name and every `name@alias` that `caller` can use as a model, sorted.

        Args:
            base: return only models for this base.
            caller: the caller.
        """
        with self._database.read(caller) as session:
            newest = list_queries.models(session, base)
            aliases = list_queries.aliases_by_name(session)
            out_of_use = list_queries.out_of_use(session)
        models = []
        for name, kind, model_base, created_at in newest:
            models.append(ListedModel(name, kind, model_base, created_at))
            for alias, number in aliases.get(name, ()):
                if (name, number) not in out_of_use:
                    aliased = f"{name}@{alias}"
                    models.append(ListedModel(aliased, kind, model_base, created_at))
        return tuple(sorted(models, key=lambda model: model.id))


def _table(session: ReadSession, table: type[V], name: str) -> type[V]:
    """Return `table` if it contains the versions of `name`.

    Raises:
        UnknownReference: another table contains the versions, or the name is not visible.
    """
    if resolving.version_table(session, name, name) is not table:
        raise resolving.unknown(session, name)
    return table


def _adapter_summaries(
    session: ReadSession, versions: Iterable[AdapterVersionRow]
) -> Iterable[AdapterSummary]:
    by_name = {row.name: row for row in versions}
    visibility = list_queries.visibilities(session, by_name)
    aliases = _aliases(list_queries.aliases_of(session, by_name))
    tags = defaultdict[str, list[str]](list)
    for tag in queries.tags(session, by_name):
        tags[tag.name].append(tag.tag)
    for name, row in by_name.items():
        yield rows.adapter_summary(row, visibility[name], tags[name], aliases[name])


def _composition_summaries(
    session: ReadSession, versions: Iterable[CompositionVersionRow]
) -> Iterable[CompositionSummary]:
    by_name = {row.name: row for row in versions}
    visibility = list_queries.visibilities(session, by_name)
    aliases = _aliases(list_queries.aliases_of(session, by_name))
    for name, row in by_name.items():
        yield rows.composition_summary(row, visibility[name], aliases[name])


def _aliases(aliases: Iterable[AliasRow]) -> dict[str, dict[str, int]]:
    grouped = defaultdict[str, dict[str, int]](dict)
    for row in aliases:
        grouped[row.name][row.alias] = row.number
    return grouped


def _artifact(session: ReadSession, row: ArtifactRow) -> Artifact:
    return value_of(Artifact, row, recipes=recipes.makers(session, row.digest))
