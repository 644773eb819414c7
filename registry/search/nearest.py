"""Nearest versions in a space of embeddings: by pgvector's index, or by a scan of all vectors.

Not covered: the meaning of the vectors, and the ranking over several questions
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
# Revision, namespace of the caller (None: everything is visible), filter.
_Match: TypeAlias = tuple[int, str | None, Conditions]
# Filters whose matches are cached while the revision is unchanged.
_FILTERS_KEPT = 32
# Nearest candidates per hit that are filtered first, before all matches of a filter are queried.
_CANDIDATE_FACTOR = 2
_NO_VERSION = -1


class Scan:
    """Exact search over all vectors of a space, in memory as one matrix. Safe to share by threads.

    A search reads from the database only the vectors written since the previous one. The matrix has
    one row per version: 100,000 versions of 1,024 numbers take 400 MB, also while they are read.
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

        Among equally near versions the older comes first.
        """
        # Before the lock: its holder must not wait for a connection that waiting threads hold.
        revision = queries.revision(session)
        match = (revision, caller_of(session).namespace, conditions)
        with self._lock:
            matrix = self._matrices.setdefault(space, _Matrix(space.dim))
            matrix.refresh(session, space, revision)
            if match not in self._matches:
                versions = _among_nearest(session, matrix, vector, conditions, limit)
                if versions is not None:
                    return versions
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
    """Return the nearest versions that satisfy the conditions; None if there are too few of them.

    Most filters match many versions. All matches of a filter take long to read, and every change of
    the registry invalidates them.
    """
    near = matrix.nearest(vector, _CANDIDATE_FACTOR * limit)
    matches = set(search_queries.candidates(session, conditions, among=near).tolist())
    versions = [version for version in near if version in matches]
    return versions[:limit] if len(versions) >= limit or len(near) == len(matrix) else None


class _Matrix:
    """The vectors of one space as rows, with spare capacity."""

    def __init__(self, dim: int) -> None:
        self._rows = np.empty((0, dim), np.float32)
        self._ids = np.empty(0, np.int64)  # by row; `_NO_VERSION` for a version that left the space
        self._used = 0  # the number of rows in use
        self._row_of: dict[int, int] = {}
        self._revision = -1

    def __len__(self) -> int:
        return len(self._row_of)

    def refresh(self, session: ReadSession, space: Space, revision: int) -> None:
        """Read the changes up to `revision`."""
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
        """Return the row of a version, which is fixed while the version is in this space."""
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
        """Return the rows of these versions (ascending)."""
        if len(versions) == 0:
            return versions
        ids = self._ids[: self._used]
        at = np.minimum(np.searchsorted(versions, ids), len(versions) - 1)
        return np.flatnonzero(versions[at] == ids)

    def nearest(
        self, vector: NDArray[np.float32], limit: int, rows: NDArray[np.int64] | None = None
    ) -> list[int]:
        """Return the versions of the `limit` rows with the largest dot product with `vector`.

        The search covers `rows`, or all rows that have a version.
        """
        if rows is None:
            rows = np.flatnonzero(self._ids[: self._used] != _NO_VERSION)
        if len(rows) * 4 > self._used:  # for most rows, one product over all avoids a copy
            scores = (self._rows[: self._used] @ vector)[rows]
        else:
            scores = self._rows[rows] @ vector
        versions = self._ids[rows]
        if len(rows) > limit:
            # Keep every tie with the last result, so that ids decide and not the order of rows.
            least = np.partition(scores, len(rows) - limit)[len(rows) - limit]
            best = np.flatnonzero(scores >= least)
            scores, versions = scores[best], versions[best]
        order = np.lexsort((versions, -scores))[:limit]
        return [int(version) for version in versions[order]]


class Index:
    """Nearest versions in any database: pgvector on PostgreSQL, otherwise a scan."""

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
