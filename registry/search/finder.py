"""Search for adapters by text, by similarity, by examples and by filters.

A search asks up to three questions, each in one space of embeddings. A hit's score is the mean of
its cosines over the questions, and the hit lists each of them. An index may answer approximately
(`registry.search.nearest`), so the best candidates of each question are then compared exactly.
Not covered: visibility (`registry.access.visibility`).
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

# Near-duplicates: successive checkpoints of one training have cosines of up to 0.9999.
DUPLICATE_COSINE = 0.999
_DUPLICATES_SHOWN = 5
# Candidates of each question that are compared exactly, per requested hit.
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
    """A matching version with its reasons; `score` is the mean of the reasons' cosines."""

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
        """Return the reference of this version."""
        return parse_reference(self.reference)


@dataclass(frozen=True, slots=True)
class _Query:
    """A question as a vector in its space."""

    question: Question
    space: Space
    vector: NDArray[np.float32]  # (dim,), of length 1 or 0


class Finder:
    """Searches the adapters of a registry. Safe to share by threads."""

    def __init__(self, database: Database, embedder: Embedder) -> None:
        self._database, self._embedder = database, embedder
        self._index = Index()

    def revision(self) -> int:
        """Return a number that grows with every change to the searchable data."""
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
        """Return the best matches, best first; among equal scores the older version comes first.

        Without a question, all versions that satisfy the filter are returned by name, with score 0.

        Args:
            text: a description of the wanted adapter.
            like: a version to compare with. The result leaves it out, and every version whose score
                is exactly 0 (an adapter without effect resembles none). Only versions for the
                same base are returned, unless conditions name a base.
            by: the kind of embedding that `like` compares.
            examples: texts that the wanted adapter should handle well.
            filter: conditions in the language of `registry.search.filters`.
            where: additional conditions.
            limit: 1 to 200.
            caller: return only versions that this caller sees.

        Raises:
            FilterInvalid: the filter cannot be parsed.
            UnknownReference, UnknownBase: `like` or a base of the filter is unknown.
            NoEmbedding: `like` has no embedding of this kind.
            ValueError: the limit is out of range.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise ValueError(f"a limit is 1 to {MAX_LIMIT}, not {limit}")
        conditions = (*parse_filter(filter), *where)
        questions = self._encoded(text, examples)
        with self._database.read(caller) as session:
            conditions = _with_known_bases(session, conditions)
            if like is None:
                return self._answer(session, questions, conditions, limit)
            version = adapter_version(session, like)
            questions.append(_query_like(session, version, by))
            if not questions[-1].vector.any():
                return ()
            if not any(condition.field == "base" for condition in conditions):
                conditions = (*conditions, Condition("base", "=", (version.base.lower(),)))
            hits = self._answer(session, questions, conditions, limit + 1)
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
        """Return all versions that satisfy the conditions, by name, at most `limit`.

        The examples determine only the scores; they exclude no version.

        Raises:
            FilterInvalid, UnknownBase: as `search`.
        """
        conditions = (*parse_filter(filter), *where)
        questions = self._encoded(None, examples)
        with self._database.read(caller) as session:
            conditions = _with_known_bases(session, conditions)
            versions = search_queries.first_by_name(session, conditions, limit)
            return _hits(session, _reasons(session, questions, versions))

    def similar(self, reference: Reference, caller: Caller = LOCAL) -> tuple[Similar, ...]:
        """Return the versions in use whose update nearly equals that of `reference`, nearest first.

        These are at most five versions, of any adapter, whose weights have a cosine above 0.999.
        The result is empty if the version has no embedding of its weights.

        Raises:
            UnknownReference: the version does not exist.
        """
        in_use = Condition("status", "=", ("admitted",))
        with self._database.read(caller) as session:
            version = adapter_version(session, reference)
            own = search_queries.embedding(session, version.id, "weights")
            if own is None or not own.vector.any():
                return ()
            query = _Query("like", Space("weights", own.encoder, own.dim), own.vector)
            base = Condition("base", "=", (version.base.lower(),))
            hits = self._answer(session, [query], (base, in_use), _DUPLICATES_SHOWN + 1)
        return tuple(
            Similar(hit.reference, hit.score, hit.digest == version.digest)
            for hit in hits
            if hit.score > DUPLICATE_COSINE and hit.reference != f"{version.name}@{version.number}"
        )[:_DUPLICATES_SHOWN]

    def _encoded(self, text: str | None, examples: Sequence[str]) -> list[_Query]:
        """Encode the questions in words, outside of any transaction."""
        encoder = self._embedder.encoder
        space = Space("text", encoder.name, encoder.dim)
        questions: list[_Query] = []
        if text is not None and text.strip():
            questions.append(_Query("text", space, encoder.encode([text])[0]))
        if examples:
            questions.append(_Query("examples", space, self._embedder.of_examples(examples)))
        return questions

    def _answer(
        self, session: ReadSession, questions: Sequence[_Query], conditions: Conditions, limit: int
    ) -> tuple[Hit, ...]:
        if not questions:
            versions = search_queries.first_by_name(session, conditions, limit)
            return _hits(session, dict.fromkeys(versions, ()))
        size = max(_SHORTLIST_LEAST, _SHORTLIST_FACTOR * limit)
        shortlist: set[int] = set()
        for question in questions:
            shortlist.update(
                self._index.nearest(session, question.space, question.vector, conditions, size)
            )
        why = _reasons(session, questions, sorted(shortlist))
        best = sorted(why, key=lambda version: (-_score(why[version]), version))[:limit]
        return _hits(session, {version: why[version] for version in best})


def _reasons(
    session: ReadSession, questions: Sequence[_Query], versions: Sequence[int]
) -> dict[int, tuple[Reason, ...]]:
    """Compare versions with every question exactly."""
    reasons: dict[int, tuple[Reason, ...]] = dict.fromkeys(versions, ())
    for question in questions:
        vectors = search_queries.vectors(session, question.space, versions)
        for version in versions:
            # One at a time, in float64: the rounding of a batch depends on its other members.
            vector = vectors.get(version)
            product = 0.0 if vector is None else float(question.vector.astype(np.float64) @ vector)
            cosine = min(
                1.0, max(-1.0, product)
            )  # float32 unit vectors may be slightly longer than 1
            reason = Reason(question.question, question.space.kind, question.space.encoder, cosine)
            reasons[version] = (*reasons[version], reason)
    return reasons


def _score(why: Sequence[Reason]) -> float:
    return sum(reason.cosine for reason in why) / len(why) if why else 0.0


def _hits(session: ReadSession, why: Mapping[int, tuple[Reason, ...]]) -> tuple[Hit, ...]:
    """Return versions as hits, in the given order."""
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


def _query_like(session: ReadSession, version: AdapterVersionRow, kind: EmbeddingKind) -> _Query:
    own = search_queries.embedding(session, version.id, kind)
    if own is None:
        raise NoEmbedding(f"{version.name}@{version.number}", kind)
    return _Query("like", Space(kind, own.encoder, own.dim), own.vector)


def _with_known_bases(session: ReadSession, conditions: Conditions) -> Conditions:
    """Replace spellings of bases in the conditions with the registered names."""

    def known(condition: Condition) -> Condition:
        if condition.field != "base":
            return condition
        names = (known_bases.find(session, str(value)).name for value in condition.values)
        return replace(condition, values=tuple(name.lower() for name in names))

    return tuple(map(known, conditions))
