"""Which adapters a job may choose from: what a filter finds, or what is listed, once for all.

The pool is written down by digest when the job is asked for; whether its members may still be
served is asked again before anything is published. Not covered: which of them a job merges
(`merge.adaptive.selection`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from merge.adaptive.pool import PoolMember
from registry.callers import Caller
from registry.errors import UnknownReference, VersionQuarantined, VersionRetired
from registry.references import parse_reference
from registry.search.filters import Condition, parse_filter
from registry.service import Registry
from registry.storage.blobs import BlobStore
from server.compose.resolve import WrongBase, resolve_adapter

MAX_MEMBERS = 2000
# What an encoder makes one vector of, as in a search.
_EXAMPLES = 32
_EXAMPLE_CHARACTERS = 1000
_MOST_VERSIONS = 20_000


class PoolInvalid(ValueError):
    """A pool that is no pool: a filter that asks for what cannot be served, or far too many."""

    param = "pool"


class PoolEmpty(Exception):
    """No adapter fits what was asked for."""

    param = "pool"

    def __init__(self, base: str) -> None:
        super().__init__(
            f"no adapter for {base} that you may use is in the pool: ask for others, or import some"
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """An adapter that may be chosen from."""

    reference: str  # for example "legal@2"
    digest: str

    def to_json(self) -> dict[str, str]:
        """Return it as a job's request holds it."""
        return {"reference": self.reference, "digest": self.digest}


def choose(
    registry: Registry, pool: str | Sequence[str], *, base: str, caller: Caller
) -> tuple[Chosen, ...]:
    """Return the members of a pool for `base`, each content once, that the caller may use now.

    Args:
        registry: where adapters are.
        pool: a filter (`registry.search.filters`; of each adapter the newest version in use), or
            references, all of which must be usable.
        base: of the adapters, by its own name.
        caller: who asks.

    Raises:
        PoolInvalid, PoolEmpty: as they say.
        registry.errors.RegistryError: the filter or a reference cannot be read or used.
        NotAnIngredient, WrongBase: a reference is for something else.
    """
    if isinstance(pool, str):
        found = _filtered(registry, pool, base, caller)
    else:
        found = [_referred(registry, text, base, caller) for text in dict.fromkeys(pool)]
    once = {member.digest: member for member in reversed(found)}
    if not once:
        raise PoolEmpty(base)
    if len(once) > MAX_MEMBERS:
        raise PoolInvalid(f"the pool has more than {MAX_MEMBERS} adapters: narrow it with a filter")
    return tuple(reversed(once.values()))


def _filtered(registry: Registry, text: str, base: str, caller: Caller) -> list[Chosen]:
    if any(condition.field == "status" for condition in parse_filter(text)):
        raise PoolInvalid("a pool has what may be served only: leave status out of its filter")
    where = (Condition("base", "=", (base,)),)
    hits = registry.search.finder.every(
        filter=text, where=where, limit=MAX_MEMBERS + 1, caller=caller
    )
    return [Chosen(hit.reference, hit.digest) for hit in hits]


def _referred(registry: Registry, text: str, base: str, caller: Caller) -> Chosen:
    found = resolve_adapter(registry, parse_reference(text), caller=caller)
    if found.base != base:
        raise WrongBase(text, found.base, base)
    return Chosen(f"{found.name}@{found.number}", found.digest)


def members_of(request: Mapping[str, Any], versions: BlobStore) -> tuple[PoolMember, ...]:
    """Return a job's pool with the folders that its members lie in.

    Raises:
        registry.errors.BlobMissing: the files of one are gone.
    """
    return tuple(
        PoolMember(each["reference"], each["digest"], versions.path(each["digest"]))
        for each in request["members"]
    )


def compared(
    registry: Registry, members: Iterable[PoolMember], examples: Sequence[str], caller: Caller
) -> tuple[PoolMember, ...]:
    """Return members with the likeness of what each says of itself to examples."""
    shown = [text[:_EXAMPLE_CHARACTERS] for text in examples[:_EXAMPLES]]
    members = tuple(members)
    names = sorted({member.reference.partition("@")[0] for member in members})
    where = (Condition("name", "=", tuple(names)), Condition("status", "=", ("admitted",)))
    hits = registry.search.finder.every(
        where=where, examples=shown, limit=_MOST_VERSIONS, caller=caller
    )
    scores = {hit.reference: hit.score for hit in hits}
    return tuple(replace(each, text_similarity=scores.get(each.reference)) for each in members)


def unusable(registry: Registry, references: Iterable[str], caller: Caller) -> dict[str, str]:
    """Return why, of those of these adapters that the caller may not use any more."""
    reasons = {}
    for text in references:
        try:
            resolve_adapter(registry, parse_reference(text), caller=caller)
        except (UnknownReference, VersionRetired, VersionQuarantined) as error:
            reasons[text] = str(error)
    return reasons
