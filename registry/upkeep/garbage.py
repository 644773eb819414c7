"""Garbage collection: find unreferenced files, then remove them.

Needed are the files of versions in use, of versions retired a short while ago, of the adapters
that a job draws on until it has ended, and of whatever a composition in use is merged from, step
by step down to versions. Needed artifacts are those of compositions in use. The rest is garbage,
once it has not been stored or used for an hour: an import stores files before the rows that
name them, so young files may belong to an import under way.

Safe while others work:
- Engines read versions and artifacts through hard links of their own (`server.engine.pinned`), and
  the artifact store holds versions by hard links: removing a name takes no bytes from a reader.
- An import that finds its content already stored makes it young, and removal looks at the age once
  more after it has taken the folder's name away (`LocalBlobs.discard`): one of the two gives way.
- Before a thing is removed, weft asks again whether it is referenced now.
- Artifacts can be built and staged again. Beside a running gateway let its evictor remove them
  (`server.artifacts.collect`): it knows the requests under way and the engine's memory.

Not covered: rows. What was retired stays in the history, and its name with it.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from registry.jobs import queries as job_queries
from registry.paging import Page, key_of, paged
from registry.storage.blobs import LocalBlobs
from registry.storage.columns import now
from registry.storage.database import Database, ReadSession
from registry.upkeep import queries

YOUNG_SECONDS = 3600.0
DAY_SECONDS = 86400.0
Store: TypeAlias = Literal["versions", "artifacts"]
Reason: TypeAlias = Literal["orphan", "retired", "unused", "budget"]


@dataclass(frozen=True, slots=True)
class KeepRules:
    """What is kept although it is not needed, and what goes although it is.

    Attributes:
        grace_seconds: a retired version's files, and artifacts that no composition needs, stay
            for so long after they were retired or last used.
        artifact_budget_bytes: artifacts beyond this go, those that no composition needs first and
            the least recently used first among equals; None for no limit.
    """

    grace_seconds: float = 7 * DAY_SECONDS
    artifact_budget_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Garbage:
    """A folder that can go.

    Its bytes come free when no other store links to the same files.
    """

    store: Store
    digest: str
    bytes: int
    idle_seconds: float  # since it was stored or last used
    reason: Reason


@dataclass(frozen=True, slots=True)
class Collected:
    """What became of a planned removal; what stays has come into use since the plan."""

    garbage: Garbage
    removed: bool


@dataclass(frozen=True, slots=True)
class _Needs:
    """Digests by what is known of them."""

    versions: frozenset[str]  # every version's
    artifacts: frozenset[str]  # everything that was ever built
    needed: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Folder:
    """What a store holds under one digest."""

    digest: str
    bytes: int
    idle_seconds: float

    def garbage(self, store: Store, reason: Reason) -> Garbage:
        """Return the folder as something that can go."""
        return Garbage(store, self.digest, self.bytes, self.idle_seconds, reason)


class Collector:
    """Plans and removes garbage of one registry's stores. Safe to share by threads."""

    def __init__(
        self, database: Database, versions: LocalBlobs, artifacts: LocalBlobs, rules: KeepRules
    ) -> None:
        self._database, self._rules = database, rules
        self._stores: dict[Store, LocalBlobs] = {"versions": versions, "artifacts": artifacts}

    def plan(self) -> tuple[Garbage, ...]:
        """Return what can go, by store, reason and age; nothing is changed.

        Raises:
            DatabaseUnavailable: it cannot be read.
            OSError: a store cannot be.
        """
        # Files first: what is stored from here on is not looked at, so it cannot be missed below.
        versions, artifacts = (_folders(store) for store in self._stores.values())
        with self._database.read() as session:
            needs = _needs(session, self._rules)
        found = [*_unneeded_versions(versions, needs), *_unneeded(artifacts, needs, self._rules)]
        return tuple(sorted(found, key=lambda g: (g.store, g.reason, -g.idle_seconds, g.digest)))

    def page(self, *, cursor: str | None = None, limit: int = 100) -> Page[Garbage]:
        """Return some of the plan, by store and digest; each page is planned anew.

        Raises:
            CursorInvalid: it is not one of this list's.
            DatabaseUnavailable, OSError: as `plan`.
        """
        after = key_of("garbage", cursor, str) or ""
        rest = sorted((g for g in self.plan() if _place(g) > after), key=_place)
        return paged("garbage", rest, limit, _place, lambda garbage: garbage)

    def collect(self, planned: Iterable[Garbage]) -> tuple[Collected, ...]:
        """Remove what was planned and can still go; return what became of each.

        Raises:
            DatabaseUnavailable, OSError: as `plan`; what went before is gone.
        """
        still = {(garbage.store, garbage.digest) for garbage in self.plan()}
        return tuple(
            Collected(
                garbage,
                (garbage.store, garbage.digest) in still
                and self._stores[garbage.store].discard(garbage.digest, idle_seconds=YOUNG_SECONDS),
            )
            for garbage in planned
        )

    def sweep(self) -> int:
        """Remove the workspaces that crashed processes left, and return how many there were."""
        return sum(store.sweep(older_than_seconds=YOUNG_SECONDS) for store in self._stores.values())


def _place(garbage: Garbage) -> str:
    return f"{garbage.store}/{garbage.digest}"


def _folders(store: LocalBlobs) -> list[_Folder]:
    now = time.time()
    return [_Folder(d, store.size(d), now - store.used_at(d)) for d in store.digests()]


def _unneeded_versions(folders: Iterable[_Folder], needs: _Needs) -> Iterator[Garbage]:
    for folder in folders:
        if folder.idle_seconds > YOUNG_SECONDS and folder.digest not in needs.needed:
            reason: Reason = "retired" if folder.digest in needs.versions else "orphan"
            yield folder.garbage("versions", reason)


def _unneeded(folders: Iterable[_Folder], needs: _Needs, rules: KeepRules) -> Iterator[Garbage]:
    kept = []
    for folder in folders:
        reason = _reason(folder, needs, rules) if folder.idle_seconds > YOUNG_SECONDS else None
        if reason is None:
            kept.append(folder)
        else:
            yield folder.garbage("artifacts", reason)
    yield from _over_budget(kept, needs, rules.artifact_budget_bytes)


def _reason(folder: _Folder, needs: _Needs, rules: KeepRules) -> Reason | None:
    """Return why an artifact, or a staged version, goes whatever the budget; None if it stays."""
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
    """Yield what else must go for the rest, young ones included, to fit the budget."""
    if budget_bytes is None:
        return
    ordered = sorted(kept, key=lambda f: (f.digest in needs.needed, -f.idle_seconds))
    held = sum(folder.bytes for folder in ordered)
    for folder in ordered:
        if held > budget_bytes and folder.idle_seconds > YOUNG_SECONDS:
            held -= folder.bytes
            yield folder.garbage("artifacts", "budget")


def _needs(session: ReadSession, rules: KeepRules) -> _Needs:
    since = now() - timedelta(seconds=rules.grace_seconds)
    versions = queries.version_digests(session)
    composed = queries.composed_recipes(session)
    roots = {digest for digest, retired_at in versions if _counts(retired_at, since)}
    recipes = {digest for digest, retired_at in composed if _counts(retired_at, since)}
    return _Needs(
        versions=frozenset(digest for digest, _ in versions),
        artifacts=frozenset(queries.artifact_digests(session)),
        needed=frozenset(roots | _drawn_on(session) | _made_of(session, recipes)),
    )


def _counts(retired_at: datetime | None, since: datetime) -> bool:
    return retired_at is None or retired_at > since


def _drawn_on(session: ReadSession) -> set[str]:
    """Return the digests of the members that jobs which wait or run have asked for."""
    requests = job_queries.active_requests(session)
    return {member["digest"] for request in requests for member in request.get("members") or ()}


def _made_of(session: ReadSession, recipes: set[str]) -> set[str]:
    """Return the artifacts of recipes and all that they are merged from, down to versions."""
    ingredients: defaultdict[str, set[str]] = defaultdict(set)
    makers: defaultdict[str | None, set[str]] = defaultdict(set)
    for recipe, digest in queries.recipe_ingredients(session):
        ingredients[recipe].add(digest)
    artifacts = dict(queries.recipes_with_artifact(session))
    for recipe, artifact in artifacts.items():
        makers[artifact].add(recipe)
    found: set[str] = set()
    waiting, seen = list(recipes), set(recipes)
    while waiting:
        recipe = waiting.pop()
        artifact = artifacts[recipe]
        digests = ingredients[recipe] | ({artifact} if artifact else set())
        found |= digests
        # An artifact may have to be built again, by any recipe that it came from.
        news = {maker for digest in digests for maker in makers[digest]} - seen
        seen |= news
        waiting.extend(news)
    return found
