"""Finding adapters: by what they say, by what they are like, by examples, by filters.

A search asks up to three questions, each in one space of embeddings. A hit's score is the mean of
its cosines over the questions asked, and the hit says what each of them was. Where an index answers
approximately (`registry.search.nearest`), the few best of each question are compared exactly
afterwards. Not covered: who may see what (`registry.access.visibility`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry.callers import LOCAL, Caller
from registry.references import Reference, parse_reference
from registry.search import MAX_LIMIT
from registry.search import queries as search_queries
from registry.search.embeddings import Embedder
from registry.search.errors import NoEmbedding
from registry.search.filters import Condition, parse_filter
from registry.search.nearest import Conditions, Index
from registry.search.queries import Space
from registry.storage.database import Database, ReadSession
from registry.storage.models import AdapterVersionRow
from registry.storage.values import value_of
from registry.types import EmbeddingKind, ShownStatus, Similar
from registry.versions import known_bases, queries
from registry.versions.resolve import adapter_version
from registry.versions.rows import shown_status

Question: TypeAlias = Literal["text", "like", "examples"]

# Near-duplicates: successive checkpoints of one training have up to 0.9999.
DUPLICATE_COSINE = 0.999
_DUPLICATES_SHOWN = 5
# How many of each question's best are compared over all questions, per hit that is wanted.
_SHORTLIST_FACTOR = 4
_SHORTLIST_LEAST = 50


@dataclass(frozen=True, slots=True)
class Reason:
    """One question's part of a score; `cosine` is 0 where the version has no such embedding."""

    question: Question
    kind: EmbeddingKind
    encoder: str
    cosine: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A version that was found, and why; `score` is the mean of the reasons' cosines."""

    reference: str  # for example "legal@2"
    score: float
    why: tuple[Reason, ...]
    digest: str
    base: str
    rank: int
    licence: str | None
    tags: tuple[str, ...]
    owner: str
    status: ShownStatus
    created_at: datetime

    def as_reference(self) -> Reference:
        """Return what names this version."""
        return parse_reference(self.reference)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question as a vector in its space."""

    question: Question
    space: Space
    vector: NDArray[np.float32]  # (dim,), of length 1 or 0


class Finder:
    """Searches the adapters of a registry. Safe to share by threads."""

    def __init__(self, database: Database, embedder: Embedder) -> None:
        self._database, self._embedder = database, embedder
        self._index = Index()

    def revision(self) -> int:
        """Return a number that grows with every change to what a search can find."""
        with self._database.read() as session:
            return queries.revision(session)

    def search(
        self,
        text: str | None = None,
        *,
        like: Reference | None = None,
        by: EmbeddingKind = "weights",
        examples: Sequence[str] = (),
        filter: str = "",  # noqa: A002 - the name it has everywhere
        where: Iterable[Condition] = (),
        limit: int = 10,
        caller: Caller = LOCAL,
    ) -> tuple[Hit, ...]:
        """Return the versions that answer best, best first; of equals, the older first.

        Without a question, what the filter lets through is returned by name, with score 0.

        Args:
            text: what is sought, in words.
            like: a version to be near to, which is itself left out, as is every version whose
                score is exactly 0 (an adapter without effect is like none). Only versions for the
                same base are returned, unless conditions name a base.
            by: the embedding by which it shall be near.
            examples: texts such as the adapter sought should be good at.
            filter: conditions in the language of `registry.search.filters`.
            where: more conditions, which must hold too.
            limit: 1 to 200.
            caller: only what is visible to this one is found.

        Raises:
            FilterInvalid: the filter cannot be read.
            UnknownReference, UnknownBase: `like` or a base of the filter is not known.
            NoEmbedding: `like` has no embedding of this kind.
            ValueError: the limit is out of range.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise ValueError(f"a limit is 1 to {MAX_LIMIT}, not {limit}")
        conditions = (*parse_filter(filter), *where)
        asked = self._asked(text, examples)
        with self._database.read(caller) as session:
            conditions = _with_known_bases(session, conditions)
            if like is None:
                return self._answer(session, asked, conditions, limit)
            version = adapter_version(session, like)
            asked.append(_asked_like(session, version, by))
            if not asked[-1].vector.any():
                return ()
            if not any(condition.field == "base" for condition in conditions):
                conditions = (*conditions, Condition("base", "=", (version.base.lower(),)))
            hits = self._answer(session, asked, conditions, limit + 1)
        own = f"{version.name}@{version.number}"
        return tuple(hit for hit in hits if hit.score != 0 and hit.reference != own)[:limit]

    def every(
        self,
        *,
        filter: str = "",  # noqa: A002 - the name it has everywhere
        where: Iterable[Condition] = (),
        examples: Sequence[str] = (),
        limit: int,
        caller: Caller = LOCAL,
    ) -> tuple[Hit, ...]:
        """Return all versions that conditions let through, by name, at most `limit` of them.

        Nothing is left out for being unlike the examples: they only give each its score.

        Raises:
            FilterInvalid, UnknownBase: as `search`.
        """
        conditions = (*parse_filter(filter), *where)
        asked = self._asked(None, examples)
        with self._database.read(caller) as session:
            conditions = _with_known_bases(session, conditions)
            found = search_queries.first_by_name(session, conditions, limit)
            return _hits(session, _reasons(session, asked, found))

    def similar(self, reference: Reference, caller: Caller = LOCAL) -> tuple[Similar, ...]:
        """Return the versions in use whose update is nearly that of `reference`, nearest first.

        At most five whose weights have a cosine above 0.999, of whatever adapter. Nothing where the
        version has no embedding of its weights.

        Raises:
            UnknownReference: there is no such version.
        """
        in_use = Condition("status", "=", ("admitted",))
        with self._database.read(caller) as session:
            version = adapter_version(session, reference)
            own = search_queries.embedding(session, version.id, "weights")
            if own is None or not own.vector.any():
                return ()
            asked = _Asked("like", Space("weights", own.encoder, own.dim), own.vector)
            base = Condition("base", "=", (version.base.lower(),))
            hits = self._answer(session, [asked], (base, in_use), _DUPLICATES_SHOWN + 1)
        return tuple(
            Similar(hit.reference, hit.score, hit.digest == version.digest)
            for hit in hits
            if hit.score > DUPLICATE_COSINE and hit.reference != f"{version.name}@{version.number}"
        )[:_DUPLICATES_SHOWN]

    def _asked(self, text: str | None, examples: Sequence[str]) -> list[_Asked]:
        """Encode what was asked in words, outside of any transaction."""
        encoder = self._embedder.encoder
        space = Space("text", encoder.name, encoder.dim)
        asked: list[_Asked] = []
        if text is not None and text.strip():
            asked.append(_Asked("text", space, encoder.encode([text])[0]))
        if examples:
            asked.append(_Asked("examples", space, self._embedder.of_examples(examples)))
        return asked

    def _answer(
        self, session: ReadSession, asked: Sequence[_Asked], conditions: Conditions, limit: int
    ) -> tuple[Hit, ...]:
        if not asked:
            found = search_queries.first_by_name(session, conditions, limit)
            return _hits(session, dict.fromkeys(found, ()))
        size = max(_SHORTLIST_LEAST, _SHORTLIST_FACTOR * limit)
        shortlist: set[int] = set()
        for one in asked:
            shortlist.update(self._index.nearest(session, one.space, one.vector, conditions, size))
        why = _reasons(session, asked, sorted(shortlist))
        best = sorted(why, key=lambda version: (-_score(why[version]), version))[:limit]
        return _hits(session, {version: why[version] for version in best})


def _reasons(
    session: ReadSession, asked: Sequence[_Asked], versions: Sequence[int]
) -> dict[int, tuple[Reason, ...]]:
    """Compare versions with every question, exactly."""
    reasons: dict[int, tuple[Reason, ...]] = dict.fromkeys(versions, ())
    for one in asked:
        vectors = search_queries.vectors(session, one.space, versions)
        for version in versions:
            # One at a time, in float64: a batch's rounding would depend on who else is in it.
            vector = vectors.get(version)
            product = 0.0 if vector is None else float(one.vector.astype(np.float64) @ vector)
            cosine = min(1.0, max(-1.0, product))  # float32 unit vectors are a little longer
            reason = Reason(one.question, one.space.kind, one.space.encoder, cosine)
            reasons[version] = (*reasons[version], reason)
    return reasons


def _score(why: Sequence[Reason]) -> float:
    return sum(reason.cosine for reason in why) / len(why) if why else 0.0


def _hits(session: ReadSession, why: Mapping[int, tuple[Reason, ...]]) -> tuple[Hit, ...]:
    """Return versions as hits, in the order given."""
    rows = search_queries.versions_by_id(session, why)
    tags: dict[str, list[str]] = {}
    for tag in queries.tags(session, {row.name for row in rows.values()}):
        tags.setdefault(tag.name, []).append(tag.tag)
    return tuple(
        value_of(
            Hit,
            row,
            reference=f"{row.name}@{row.number}",
            score=_score(why[version]),
            why=why[version],
            tags=tuple(tags.get(row.name, ())),
            owner=row.created_by,
            status=shown_status(row),
        )
        for version, row in ((version, rows[version]) for version in why)
    )


def _asked_like(session: ReadSession, version: AdapterVersionRow, kind: EmbeddingKind) -> _Asked:
    own = search_queries.embedding(session, version.id, kind)
    if own is None:
        raise NoEmbedding(f"{version.name}@{version.number}", kind)
    return _Asked("like", Space(kind, own.encoder, own.dim), own.vector)


def _with_known_bases(session: ReadSession, conditions: Conditions) -> Conditions:
    """Put the bases' own names in place of the spellings that a filter may use."""

    def known(condition: Condition) -> Condition:
        if condition.field != "base":
            return condition
        names = (known_bases.find(session, str(value)).name for value in condition.values)
        return replace(condition, values=tuple(name.lower() for name in names))

    return tuple(map(known, conditions))
