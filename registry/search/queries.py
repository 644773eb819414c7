"""SQL statements for search: tags, examples, embeddings, candidates.

Reads take a `ReadSession`, writes a `WriteSession`; none commits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BindParameter,
    Float,
    Row,
    Subquery,
    bindparam,
    cast,
    delete,
    func,
    or_,
    select,
    text,
)
from sqlalchemy.orm import load_only, undefer

from registry.access.visibility import caller_of, version_visible
from registry.search.filters import Condition
from registry.search.predicates import predicates
from registry.storage.database import ReadSession, WriteSession
from registry.storage.models import (
    AdapterExampleRow,
    AdapterTagRow,
    AdapterVersionRow,
    EmbeddingRow,
)
from registry.types import EmbeddingKind, Status
from registry.versions import queries

# Candidates that an HNSW index considers; pgvector's default of 40 loses recall.
_EF_SEARCH = 200
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, order=True)
class Space:
    """A set of comparable vectors: of one kind, by one encoder."""

    kind: EmbeddingKind
    encoder: str
    dim: int


# Tags and examples ------------------------------------------------------------------------------


def remove_tags(session: WriteSession, name: str, unwanted: Iterable[str]) -> None:
    """Remove tags from an adapter; tags that it does not have are ignored."""
    row = AdapterTagRow
    session.execute(delete(row).where(row.name == name, row.tag.in_(list(unwanted))))


def examples(session: ReadSession, name: str) -> Sequence[str]:
    """Return an adapter's examples in their order."""
    row = AdapterExampleRow
    return session.scalars(select(row.text).where(row.name == name).order_by(row.position)).all()


def remove_examples(session: WriteSession, name: str) -> None:
    """Remove all examples of an adapter."""
    session.execute(delete(AdapterExampleRow).where(AdapterExampleRow.name == name))


# Versions ---------------------------------------------------------------------------------------


def candidates(
    session: ReadSession, conditions: Iterable[Condition], among: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Return the ids of the versions that satisfy the conditions, ascending.

    `among` limits the search to these ids.
    """
    query = select(AdapterVersionRow.id).where(*predicates(conditions, caller_of(session)))
    if among is not None:
        query = query.where(AdapterVersionRow.id.in_(among))
    # Sorted here: ORDER BY id would make SQLite read every row with its JSON.
    return np.sort(np.array(session.scalars(query).all(), np.int64))


def first_by_name(
    session: ReadSession, conditions: Iterable[Condition], limit: int
) -> Sequence[int]:
    """Return the ids of the first versions that satisfy the conditions, by name and number."""
    row = AdapterVersionRow
    query = (
        select(row.id)
        .where(*predicates(conditions, caller_of(session)))
        .order_by(row.name, row.number)
    )
    return session.scalars(query.limit(limit)).all()


def newest_visible(
    session: ReadSession, limit: int
) -> Sequence[Row[int, str, int, str, int, str, Status]]:
    """Return the highest live version that the caller sees of each adapter, by name.

    A row has id, name, number, base, rank, created_by and status.
    """
    row = AdapterVersionRow
    columns = (row.id, row.name, row.number, row.base, row.rank, row.created_by, row.status)
    top = _newest_visible(session)
    query = select(*columns).join(top, (top.c.name == row.name) & (top.c.number == row.number))
    return session.execute(query.order_by(row.name).limit(limit)).all()


def count_newest_visible(session: ReadSession) -> int:
    """Return the number of adapters with a live version that the caller sees."""
    return session.scalar(select(func.count()).select_from(_newest_visible(session))) or 0


def _newest_visible(session: ReadSession) -> Subquery:
    row = AdapterVersionRow
    visible = version_visible(caller_of(session), row.name, row.digest)
    return queries.newest_numbers(row, visible).subquery()


def versions_by_id(session: ReadSession, ids: Iterable[int]) -> Mapping[int, AdapterVersionRow]:
    """Return versions with the columns of a hit, by id."""
    row = AdapterVersionRow
    columns = (
        row.name, row.number, row.digest, row.base, row.rank, row.licence, row.status,
        row.created_at, row.created_by, row.retired_at,
    )  # fmt: skip
    query = select(row).where(row.id.in_(list(ids))).options(load_only(*columns, raiseload=True))
    return {version.id: version for version in session.scalars(query)}


def versions_to_embed(
    session: ReadSession, kind: EmbeddingKind, encoder: str
) -> Sequence[AdapterVersionRow]:
    """Return the versions, with their cards, that have no embedding by this encoder."""
    row, embedding = AdapterVersionRow, EmbeddingRow
    done = select(embedding.version_id).where(embedding.kind == kind, embedding.encoder == encoder)
    query = select(row).where(row.retired_at.is_(None), row.id.not_in(done)).order_by(row.id)
    return session.scalars(query.options(undefer(row.card))).all()


def live_versions_with_card(session: ReadSession, name: str) -> Sequence[AdapterVersionRow]:
    """Return the versions of an adapter that are not retired, with their cards."""
    row = AdapterVersionRow
    query = select(row).where(row.name == name, row.retired_at.is_(None)).order_by(row.id)
    return session.scalars(query.options(undefer(row.card))).all()


def live_versions(session: ReadSession, name: str) -> Sequence[int]:
    """Return the ids of the versions of an adapter that are not retired."""
    row = AdapterVersionRow
    return session.scalars(select(row.id).where(row.name == name, row.retired_at.is_(None))).all()


# Embeddings -------------------------------------------------------------------------------------


def embedding(session: ReadSession, version_id: int, kind: EmbeddingKind) -> EmbeddingRow | None:
    """Return the newest embedding of this kind that a version has."""
    row = EmbeddingRow
    query = select(row).where(row.version_id == version_id, row.kind == kind)
    return session.scalar(query.order_by(row.revision.desc(), row.encoder).limit(1))


def vector_of_content(
    session: ReadSession, digest: str, encoder: str
) -> NDArray[np.float32] | None:
    """Return this encoder's weight vector of a content, under any name."""
    row, version = EmbeddingRow, AdapterVersionRow
    query = select(row.vector).join(version, version.id == row.version_id)
    query = query.where(version.digest == digest, row.kind == "weights", row.encoder == encoder)
    return session.scalar(query.order_by(version.id).limit(1))


def count_since(session: ReadSession, space: Space, since: int) -> int:
    """Return the number of vectors written in a space after a revision."""
    query = select(func.count()).select_from(EmbeddingRow)
    return session.scalar(query.where(*_in_space(space), EmbeddingRow.revision > since)) or 0


def embeddings_since(
    session: ReadSession, space: Space, since: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (version id, vector) of the vectors written in a space after a revision, by id.

    Rows are fetched a thousand at a time, because all of them may take a gigabyte.
    """
    row = EmbeddingRow
    query = select(row.version_id, row.vector).where(*_in_space(space), row.revision > since)
    options = {"yield_per": _ROWS_AT_ONCE}
    for result in session.execute(query.order_by(row.version_id), execution_options=options):
        yield result[0], result[1]


def elsewhere_since(session: ReadSession, space: Space, since: int) -> Sequence[int]:
    """Return the versions whose embedding of this kind was written to another space since then."""
    row = EmbeddingRow
    other = or_(row.encoder != space.encoder, row.dim != space.dim)
    query = select(row.version_id).where(row.kind == space.kind, row.revision > since, other)
    return session.scalars(query).all()


def spaces_of(
    session: ReadSession, kind: EmbeddingKind, ids: Iterable[int]
) -> Iterator[tuple[int, Space]]:
    """Yield (version id, space) of each vector of a kind that these versions have."""
    row = EmbeddingRow
    query = select(row.version_id, row.encoder, row.dim).where(row.kind == kind)
    for version, encoder, dim in session.execute(query.where(row.version_id.in_(list(ids)))):
        yield version, Space(kind, encoder, dim)


def vectors(
    session: ReadSession, space: Space, ids: Iterable[int]
) -> Mapping[int, NDArray[np.float32]]:
    """Return the vectors that these versions have in a space."""
    row = EmbeddingRow
    query = select(row.version_id, row.vector).where(*_in_space(space))
    results = session.execute(query.where(row.version_id.in_(list(ids))))
    return {result[0]: result[1] for result in results}


def _in_space(space: Space) -> tuple[Any, ...]:
    row = EmbeddingRow
    return row.kind == space.kind, row.encoder == space.encoder, row.dim == space.dim


def forget_embeddings(session: WriteSession, kind: EmbeddingKind, ids: Iterable[int]) -> None:
    """Remove the embeddings of one kind that these versions have, by any encoder."""
    row = EmbeddingRow
    session.execute(delete(row).where(row.kind == kind, row.version_id.in_(list(ids))))


def nearest_by_index(
    session: ReadSession,
    space: Space,
    vector: NDArray[np.float32],
    conditions: Iterable[Condition],
    limit: int,
) -> Sequence[int]:
    """Return the ids nearest to `vector` by inner product, nearest first (PostgreSQL only).

    If the space has an HNSW index, a few of the true nearest may be missing. The number of results
    is exact: if the index stops (after `hnsw.max_scan_tuples`) before `limit` versions satisfy the
    conditions, all versions that satisfy them are compared exactly.
    """
    from pgvector.sqlalchemy import VECTOR

    row = EmbeddingRow
    session.execute(text("SET LOCAL hnsw.iterative_scan = strict_order"))
    session.execute(text(f"SET LOCAL hnsw.ef_search = {_EF_SEARCH}"))
    # PostgreSQL uses the partial index only if the statement contains kind and dim as literals.
    kind: BindParameter[Any] = bindparam(None, space.kind, literal_execute=True)
    dim: BindParameter[Any] = bindparam(None, space.dim, literal_execute=True)
    # Types and operators are pgvector's; the cast equals the index's expression.
    product = cast(row.vector, VECTOR(space.dim)).op("<#>", return_type=Float())
    distance = product(cast(vector, VECTOR(space.dim)))
    query = (
        select(row.version_id)
        .join(AdapterVersionRow, AdapterVersionRow.id == row.version_id)
        .where(row.kind == kind, row.dim == dim, row.encoder == space.encoder)
        .where(*predicates(conditions, caller_of(session)))
        .limit(limit)
    )
    versions = session.scalars(query.order_by(distance)).all()
    if len(versions) < limit:  # no index covers the sum, so this is an exact scan
        versions = session.scalars(query.order_by(distance + 0, row.version_id)).all()
    return versions
