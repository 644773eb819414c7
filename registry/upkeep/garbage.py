"""Garbage collection: find unreferenced files, then remove them.

Referenced files are the files of live versions, of versions that were retired recently, of the
members of unfinished jobs, and of all direct and indirect ingredients of live compositions.
Referenced artifacts are those of live compositions. All other files are garbage after an hour
without use. An import stores files before the rows that refer to them, so newer files may belong to
an unfinished import.

Collection is safe while other processes use the stores:
- Engines read versions and artifacts through their own hard links (`server.engine.pinned`), and the
  artifact store contains versions as hard links, so a removal does not affect readers.
- An import touches content that is stored already. A removal reads the idle time again after it has
  moved the folder aside (`LocalBlobs.discard`), so it detects a concurrent import.
- Each removal follows a second check that the files are unreferenced. In a bucket, a third one
  comes between the removal of the manifest and that of the files, and a registration of a version
  looks for its files once its row is committed (`BlobStore.confirm`).
- Artifacts can be built and staged again. While a gateway runs, its evictor
  (`server.artifacts.collect`) must remove them, because it tracks active requests and the engine's
  memory.

Rows are not removed here (see `registry.upkeep.retention`): retired versions stay in the history
and keep their names.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol, TypeAlias

from registry.jobs import queries as job_queries
from registry.paging import Page, key_of, paged
from registry.storage.blobs import StoredFolder
from registry.storage.columns import now
from registry.storage.database import Database, ReadSession
from registry.upkeep import queries

YOUNG_SECONDS = 3600.0
DAY_SECONDS = 86400.0
Store: TypeAlias = Literal["versions", "artifacts"]
Reason: TypeAlias = Literal["orphan", "retired", "unused", "budget"]


@dataclass(frozen=True, slots=True)
class KeepRules:
    """The rules that keep unreferenced files for a while and limit the size of artifacts.

    Attributes:
        grace_seconds: the time that the files of a version stay after its retirement, and an
            unreferenced artifact after its last use.
        artifact_budget_bytes: the maximal total size of artifacts, or None for no limit. Artifacts
            beyond it are removed: unreferenced ones first, then the least recently used.
    """

    grace_seconds: float = 7 * DAY_SECONDS
    artifact_budget_bytes: int | None = None


class FolderStore(Protocol):
    """A store whose garbage is collected: a folder or a bucket."""

    def folders(self) -> Mapping[str, StoredFolder]:
        """Return every folder in the store by digest."""

    def discard(self, digest: str, *, idle_seconds: float, unneeded: Callable[[], bool]) -> bool:
        """Remove a digest unless it was stored or used lately, or is needed when it is hidden."""

    def sweep(self, *, older_than_seconds: float) -> int:
        """Remove the workspaces of crashed processes and return their number."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """A folder that can be removed.

    The removal frees `bytes` unless another store has hard links to the same files.
    """

    store: Store
    digest: str
    bytes: int
    idle_seconds: float  # since it was stored or last used
    reason: Reason


@dataclass(frozen=True, slots=True)
class Collected:
    """The result of a planned removal; a folder that was used since the plan is not removed."""

    garbage: Garbage
    removed: bool


@dataclass(frozen=True, slots=True)
class _Needs:
    """The digests of all versions, of all artifacts, and of all referenced files."""

    versions: frozenset[str]
    artifacts: frozenset[str]  # including artifacts whose files were removed
    needed: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder in a store."""

    digest: str
    bytes: int
    idle_seconds: float

    def garbage(self, store: Store, reason: Reason) -> Garbage:
        """Return the folder as garbage."""
        return Garbage(store, self.digest, self.bytes, self.idle_seconds, reason)


class Collector:
    """Plans and removes the garbage of a registry's stores. Threads may share one instance."""

    def __init__(
        self, database: Database, versions: FolderStore, artifacts: FolderStore, rules: KeepRules
    ) -> None:
        self._database, self._rules = database, rules
        self._stores: dict[Store, FolderStore] = {"versions": versions, "artifacts": artifacts}

    def plan(self) -> tuple[Garbage, ...]:
        """Return the folders that can be removed, sorted by store, reason and idle time.

        Raises:
            DatabaseUnavailable: the database is unreadable.
            OSError: a store is unreadable.
        """
        # List the files before the rows: a file that is stored later is not in the list, so it
        # cannot be mistaken for an unreferenced one.
        versions, artifacts = (_folders(store) for store in self._stores.values())
        with self._database.read() as session:
            needs = _needs(session, self._rules)
        garbage = [
            *_unneeded_versions(versions, needs),
            *_unneeded_artifacts(artifacts, needs, self._rules),
        ]
        return tuple(sorted(garbage, key=lambda g: (g.store, g.reason, -g.idle_seconds, g.digest)))

    def page(self, *, cursor: str | None = None, limit: int = 100) -> Page[Garbage]:
        """Return a page of the plan, sorted by store and digest; each call computes a new plan.

        Raises:
            CursorInvalid: the cursor does not belong to this list.
            DatabaseUnavailable, OSError: see `plan`.
        """
        after = key_of("garbage", cursor, str) or ""
        rest = sorted((g for g in self.plan() if _place(g) > after), key=_place)
        return paged("garbage", rest, limit, _place, lambda garbage: garbage)

    def collect(self, planned: Iterable[Garbage]) -> tuple[Collected, ...]:
        """Remove the planned folders that are still garbage; return the result for each.

        Raises:
            DatabaseUnavailable, OSError: see `plan`; earlier removals remain in effect.
        """
        removable = {(garbage.store, garbage.digest) for garbage in self.plan()}
        return tuple(
            Collected(
                garbage, (garbage.store, garbage.digest) in removable and self._discard(garbage)
            )
            for garbage in planned
        )

    def _discard(self, garbage: Garbage) -> bool:
        return self._stores[garbage.store].discard(
            garbage.digest, idle_seconds=YOUNG_SECONDS, unneeded=lambda: self._unneeded(garbage)
        )

    def _unneeded(self, garbage: Garbage) -> bool:
        """Return whether no row that refers to a planned folder was added since the plan."""
        with self._database.read() as session:
            if garbage.store == "versions":
                return not queries.has_live_version(session, garbage.digest)
            return garbage.reason != "orphan" or not queries.has_artifact(session, garbage.digest)

    def sweep(self) -> int:
        """Remove the workspaces of crashed processes and return their number."""
        return sum(store.sweep(older_than_seconds=YOUNG_SECONDS) for store in self._stores.values())


def _place(garbage: Garbage) -> str:
    return f"{garbage.store}/{garbage.digest}"


def _folders(store: FolderStore) -> list[_Folder]:
    now = time.time()
    return [
        _Folder(folder.digest, folder.nbytes, now - folder.modified)
        for folder in store.folders().values()
    ]


def _unneeded_versions(folders: Iterable[_Folder], needs: _Needs) -> Iterator[Garbage]:
    for folder in folders:
        if folder.idle_seconds > YOUNG_SECONDS and folder.digest not in needs.needed:
            reason: Reason = "retired" if folder.digest in needs.versions else "orphan"
            yield folder.garbage("versions", reason)


def _unneeded_artifacts(
    folders: Iterable[_Folder], needs: _Needs, rules: KeepRules
) -> Iterator[Garbage]:
    kept = []
    for folder in folders:
        reason = _reason(folder, needs, rules) if folder.idle_seconds > YOUNG_SECONDS else None
        if reason is None:
            kept.append(folder)
        else:
            yield folder.garbage("artifacts", reason)
    yield from _over_budget(kept, needs, rules.artifact_budget_bytes)


def _reason(folder: _Folder, needs: _Needs, rules: KeepRules) -> Reason | None:
    """Return the reason to remove an artifact or a staged version within budget, or None."""
    if folder.digest in needs.needed:
        return None
    if folder.digest in needs.versions:
        return "retired"
    if folder.digest not in needs.artifacts:
        return "orphan"
    return "unused" if folder.idle_seconds > rules.grace_seconds else None


def _over_budget(
    kept: Iterable[_Folder], needs: _Needs, budget_bytes: int | None
) -> Iterator[Garbage]:
    """Yield the folders to remove so that the kept ones, including new ones, fit the budget."""
    if budget_bytes is None:
        return
    ordered = sorted(kept, key=lambda f: (f.digest in needs.needed, -f.idle_seconds))
    total = sum(folder.bytes for folder in ordered)
    for folder in ordered:
        if total > budget_bytes and folder.idle_seconds > YOUNG_SECONDS:
            total -= folder.bytes
            yield folder.garbage("artifacts", "budget")


def _needs(session: ReadSession, rules: KeepRules) -> _Needs:
    since = now() - timedelta(seconds=rules.grace_seconds)
    versions = queries.version_digests(session)
    composed = queries.composed_recipes(session)
    roots = {digest for digest, retired_at in versions if _in_use(retired_at, since)}
    recipes = {digest for digest, retired_at in composed if _in_use(retired_at, since)}
    return _Needs(
        versions=frozenset(digest for digest, _ in versions),
        artifacts=frozenset(queries.artifact_digests(session)),
        needed=frozenset(
            roots | job_queries.active_members(session) | _ingredients_of(session, recipes)
        ),
    )


def _in_use(retired_at: datetime | None, since: datetime) -> bool:
    return retired_at is None or retired_at > since


def _ingredients_of(session: ReadSession, recipes: set[str]) -> set[str]:
    """Return the artifacts of recipes and their direct and indirect ingredients."""
    ingredients: defaultdict[str, set[str]] = defaultdict(set)
    makers: defaultdict[str | None, set[str]] = defaultdict(set)
    for recipe, digest in queries.recipe_ingredients(session):
        ingredients[recipe].add(digest)
    artifacts = dict(queries.recipes_with_artifact(session))
    for recipe, artifact in artifacts.items():
        makers[artifact].add(recipe)
    referenced: set[str] = set()
    waiting, seen = list(recipes), set(recipes)
    while waiting:
        recipe = waiting.pop()
        artifact = artifacts[recipe]
        digests = ingredients[recipe] | ({artifact} if artifact else set())
        referenced |= digests
        # A lost artifact may be built again from any recipe that produces it.
        unseen = {maker for digest in digests for maker in makers[digest]} - seen
        seen |= unseen
        waiting.extend(unseen)
    return referenced
