"""A job's pool: the adapters that it may choose from, by a filter or by a list.

The pool is resolved to digests when the job is created. Whether its members may still be served is
checked again before a candidate is published. Not covered: which of them a job merges
(`merge.adaptive.selection`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from merge.adaptive.pool import PoolMember
from registry.callers import Caller
from registry.errors import (
    CompositionDenied,
    UnknownReference,
    VersionQuarantined,
    VersionRetired,
)
from registry.references import parse_reference
from registry.search.filters import Condition, parse_filter
from registry.service import Registry
from registry.storage.blobs import BlobStore
from server.compose.resolve import WrongBase, resolve_adapter

MAX_MEMBERS = 2000
# The examples that the encoder makes one vector of, as in a search.
_EXAMPLES = 32
_EXAMPLE_CHARACTERS = 1000
_MOST_VERSIONS = 20_000


class PoolInvalid(ValueError):
    """A pool with a condition on `status`, or with too many adapters."""

    param = "pool"


class PoolEmpty(Exception):
    """The pool has no adapter of the base."""

    param = "pool"

    def __init__(self, base: str) -> None:
        super().__init__(
            f"the pool has no adapter for {base} that you may use: widen its filter, or import some"
        )


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """One adapter of a pool."""

    reference: str  # for example "legal@2"
    digest: str

    def to_json(self) -> dict[str, str]:
        """Return it as the job's request stores it."""
        return {"reference": self.reference, "digest": self.digest}


def choose(
    registry: Registry, pool: str | Sequence[str], *, base: str, caller: Caller
) -> tuple[PoolEntry, ...]:
    """Return the adapters of a pool for `base` that the caller may use, each content once.

    A pool may have adapters that policies keep apart: what a job merges of it is checked.

    Args:
        registry: the registry with the adapters.
        pool: a filter (`registry.search.filters`), which takes the newest version in use of each
            adapter; or references, all of which must be usable.
        base: the registered name of the base.
        caller: sees the adapters that it may see.

    Raises:
        PoolInvalid: the filter has a condition on status, or there are more than 2,000 adapters.
        PoolEmpty: there is none.
        registry.errors.RegistryError: the filter or a reference cannot be read or used, or a policy
            denies every merge of a reference.
        NotAnIngredient, WrongBase: a reference is not an adapter, or has another base.
    """
    if isinstance(pool, str):
        entries = _filtered(registry, pool, base, caller)
    else:
        entries = [_referred(registry, text, base, caller) for text in dict.fromkeys(pool)]
    once = {entry.digest: entry for entry in reversed(entries)}
    if not once:
        raise PoolEmpty(base)
    if len(once) > MAX_MEMBERS:
        raise PoolInvalid(f"the pool has more than {MAX_MEMBERS} adapters: narrow it with a filter")
    return tuple(reversed(once.values()))


def _filtered(registry: Registry, text: str, base: str, caller: Caller) -> list[PoolEntry]:
    if any(condition.field == "status" for condition in parse_filter(text)):
        raise PoolInvalid(
            "a pool has adapters that may be served only: remove `status` from its filter"
        )
    where = (Condition("base", "=", (base,)),)
    hits = registry.search.finder.every(
        filter=text, where=where, limit=MAX_MEMBERS + 1, caller=caller
    )
    usable = registry.access.policies.usable(hit.digest for hit in hits)
    return [PoolEntry(hit.reference, hit.digest) for hit in hits if hit.digest in usable]


def _referred(registry: Registry, text: str, base: str, caller: Caller) -> PoolEntry:
    version = resolve_adapter(registry, parse_reference(text), caller=caller)
    if version.base != base:
        raise WrongBase(text, version.base, base)
    registry.access.policies.check({version.digest: text})
    return PoolEntry(f"{version.name}@{version.number}", version.digest)


def members_of(request: Mapping[str, Any], versions: BlobStore) -> tuple[PoolMember, ...]:
    """Return the members of a job's pool, with their folders.

    Raises:
        registry.errors.BlobMissing: the files of a member are gone.
    """
    return tuple(
        PoolMember(entry["reference"], entry["digest"], versions.path(entry["digest"]))
        for entry in request["members"]
    )


def compared(
    registry: Registry, members: Iterable[PoolMember], examples: Sequence[str], caller: Caller
) -> tuple[PoolMember, ...]:
    """Return members with the similarity of their descriptions to the examples."""
    shown = [text[:_EXAMPLE_CHARACTERS] for text in examples[:_EXAMPLES]]
    members = tuple(members)
    names = sorted({member.reference.partition("@")[0] for member in members})
    where = (Condition("name", "=", tuple(names)), Condition("status", "=", ("admitted",)))
    hits = registry.search.finder.every(
        where=where, examples=shown, limit=_MOST_VERSIONS, caller=caller
    )
    scores = {hit.reference: hit.score for hit in hits}
    return tuple(
        replace(member, text_similarity=scores.get(member.reference)) for member in members
    )


def unusable(registry: Registry, references: Iterable[str], caller: Caller) -> dict[str, str]:
    """Return the adapters that the caller may not use any more, each with the reason."""
    reasons = {}
    for text in references:
        try:
            resolve_adapter(registry, parse_reference(text), caller=caller)
        except (UnknownReference, VersionRetired, VersionQuarantined, CompositionDenied) as error:
            reasons[text] = str(error)
    return reasons
