"""Nearest versions in a space of embeddings: by pgvector's index, or by looking at all of them.

Not covered: what the vectors mean and how several questions make one ranking
(`registry.search.finder`).
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry.access.visibility import caller_of
from registry.search import queries as search_queries
from registry.search.filters import Condition
from registry.search.queries import Space
from registry.storage.database import ReadSession
from registry.versions import queries

Conditions: TypeAlias = tuple[Condition, ...]
# Revision, namespace of the caller (None: all are visible), filter.
_Match: TypeAlias = tuple[int, str | None, Conditions]
# Filters whose matches are remembered, for as long as the revision stays.
_FILTERS_KEPT = 32
# How many of the nearest are held against a filter before all that it lets through are asked for.
_HELD_AGAINST = 2
_NO_VERSION = -1


class Scan:
    """Exact search over all vectors of a space, kept in memory as one matrix. For threads.

    A search reads from the database only what was written since the last one. One row per version:
    100,000 versions of 1,024 numbers are 400 MB, and no more while they are read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._matrices: dict[Space, _Matrix] = {}
        self._matches: OrderedDict[_Match, NDArray[np.int64]] = OrderedDict()

    def nearest(
        self,
        session: ReadSession,
        space: Space,
        vector: NDArray[np.float32],
        conditions: Conditions,
        limit: int,
    ) -> Sequence[int]:
        """Return up to `limit` ids of versions that satisfy the conditions, nearest first.

        Of equally near ones the older comes first.
        """
        # Before the lock: its holder must not wait for a connection that waiting threads hold.
        revision = queries.revision(session)
        match = (revision, caller_of(session).namespace, conditions)
        with self._lock:
            matrix = self._matrices.setdefault(space, _Matrix(space.dim))
            matrix.refresh(session, space, revision)
            if match not in self._matches:
                found = _among_nearest(session, matrix, vector, conditions, limit)
                if found is not None:
                    return found
                self._remember(match, search_queries.candidates(session, conditions))
            return matrix.nearest(vector, limit, matrix.rows_of(self._matches[match]))

    def _remember(self, match: _Match, versions: NDArray[np.int64]) -> None:
        self._matches[match] = versions
        if len(self._matches) > _FILTERS_KEPT:
            self._matches.popitem(last=False)


def _among_nearest(
    session: ReadSession,
    matrix: "_Matrix",
    vector: NDArray[np.float32],
    conditions: Conditions,
    limit: int,
) -> Sequence[int] | None:
    """Return what satisfies the conditions among the very nearest; None when that is too few.

    Most filters let much through. What they let through in all takes long to read, and is another
    set after every change.
    """
    near = matrix.nearest(vector, _HELD_AGAINST * limit)
    kept = set(search_queries.candidates(session, conditions, among=near).tolist())
    found = [version for version in near if version in kept]
    return found[:limit] if len(found) >= limit or len(near) == len(matrix) else None


class _Matrix:
    """The vectors of one space as rows, with room to grow."""

    def __init__(self, dim: int) -> None:
        self._rows = np.empty((0, dim), np.float32)
        self._ids = np.empty(0, np.int64)  # by row; `_NO_VERSION` where one has left
        self._used = 0  # rows up to here
        self._row_of: dict[int, int] = {}
        self._revision = -1

    def __len__(self) -> int:
        return len(self._row_of)

    def refresh(self, session: ReadSession, space: Space, revision: int) -> None:
        """Take over what was written up to `revision`."""
        since = self._revision
        if revision <= since:
            return
        if self._row_of:
            for version in search_queries.elsewhere_since(session, space, since):
                self._forget(version)
        self._make_room(search_queries.count_since(session, space, since))
        for version, vector in search_queries.embeddings_since(session, space, since):
            self._rows[self._row(version)] = vector
        self._revision = revision

    def _make_room(self, count: int) -> None:
        needed = self._used + count
        if needed > len(self._rows):
            size = needed * 5 // 4
            rows, ids = np.empty((size, self._rows.shape[1]), np.float32), np.empty(size, np.int64)
            rows[: self._used], ids[: self._used] = (
                self._rows[: self._used],
                self._ids[: self._used],
            )
            self._rows, self._ids = rows, ids

    def _row(self, version: int) -> int:
        """Return the row that a version keeps as long as it is in this space."""
        row = self._row_of.get(version)
        if row is None:
            row = self._row_of[version] = self._used
            self._ids[row] = version
            self._used += 1
        return row

    def _forget(self, version: int) -> None:
        row = self._row_of.pop(version, None)
        if row is not None:
            self._ids[row] = _NO_VERSION

    def rows_of(self, versions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows that belong to these versions (ascending)."""
        if len(versions) == 0:
            return versions
        ids = self._ids[: self._used]
        at = np.minimum(np.searchsorted(versions, ids), len(versions) - 1)
        return np.flatnonzero(versions[at] == ids)

    def nearest(
        self, vector: NDArray[np.float32], limit: int, rows: NDArray[np.int64] | None = None
    ) -> list[int]:
        """Return the versions of the `limit` rows with the largest product with `vector`.

        Of `rows`, or of all that have a version.
        """
        if rows is None:
            rows = np.flatnonzero(self._ids[: self._used] != _NO_VERSION)
        if len(rows) * 4 > self._used:  # most of them: one product over all, without a copy
            scores = (self._rows[: self._used] @ vector)[rows]
        else:
            scores = self._rows[rows] @ vector
        versions = self._ids[rows]
        if len(rows) > limit:
            # Everything that ties with the last one in stays in, so that ids decide and not order.
            least = np.partition(scores, len(rows) - limit)[len(rows) - limit]
            kept = np.flatnonzero(scores >= least)
            scores, versions = scores[kept], versions[kept]
        order = np.lexsort((versions, -scores))[:limit]
        return [int(version) for version in versions[order]]


class Index:
    """Nearest versions in any database: pgvector where there is one, else a scan."""

    def __init__(self) -> None:
        self._scan = Scan()

    def nearest(
        self,
        session: ReadSession,
        space: Space,
        vector: NDArray[np.float32],
        conditions: Conditions,
        limit: int,
    ) -> Sequence[int]:
        """Return up to `limit` ids of versions that satisfy the conditions, nearest first."""
        if session.get_bind().dialect.name == "postgresql":
            return search_queries.nearest_by_index(session, space, vector, conditions, limit)
        return self._scan.nearest(session, space, vector, conditions, limit)
