"""Nearest versions in a space of embeddings: by pgvector's index, or by looking at all of them.

Not covered: what the vectors mean and how several questions make one ranking (`registry.search`).
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry import search_queries
from registry.database import ReadSession
from registry.filters import Condition
from registry.search_queries import Space
from registry.visibility import caller_of

Conditions: TypeAlias = tuple[Condition, ...]
# Revision, namespace of the caller (None: all are visible), filter.
_Match: TypeAlias = tuple[int, str | None, Conditions]
# Filters whose matches are remembered, for as long as the revision stays.
_FILTERS_KEPT = 32


class Scan:
    """Exact search over all vectors of a space, kept in memory as one matrix. For threads.

    A search reads from the database only what was written since the last one. One row per version:
    100,000 versions of 1,024 numbers are 400 MB.
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
        with self._lock:
            revision = search_queries.revision(session)
            matrix = self._matrices.setdefault(space, _Matrix(space.dim))
            matrix.refresh(session, space, revision)
            rows = matrix.rows_of(self._matching(session, revision, conditions))
            return matrix.nearest(vector, rows, limit)

    def _matching(
        self, session: ReadSession, revision: int, conditions: Conditions
    ) -> NDArray[np.int64]:
        key = (revision, caller_of(session).namespace, conditions)
        if key not in self._matches:
            self._matches[key] = search_queries.candidates(session, conditions)
            if len(self._matches) > _FILTERS_KEPT:
                self._matches.popitem(last=False)
        return self._matches[key]


class _Matrix:
    """The vectors of one space as rows, with room to grow; a version keeps its row for good."""

    def __init__(self, dim: int) -> None:
        self._rows = np.empty((0, dim), np.float32)
        self._row_of: dict[int, int] = {}
        self._ids = np.empty(0, np.int64)  # by row, as far as rows are used
        self._revision = -1

    def refresh(self, session: ReadSession, space: Space, revision: int) -> None:
        """Take over what was written up to `revision`."""
        if revision <= self._revision:
            return
        written = search_queries.embeddings_since(session, space, self._revision)
        new = [version for version, _ in written if version not in self._row_of]
        self._row_of |= {version: len(self._row_of) + i for i, version in enumerate(new)}
        self._ids = np.append(self._ids, np.array(new, np.int64))
        if len(self._row_of) > len(self._rows):
            grown = np.empty((len(self._row_of) * 5 // 4, space.dim), np.float32)
            grown[: len(self._rows)] = self._rows
            self._rows = grown
        for version, vector in written:
            self._rows[self._row_of[version]] = vector
        self._revision = revision

    def rows_of(self, versions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows that belong to these versions (ascending)."""
        if len(versions) == 0:
            return versions
        at = np.minimum(np.searchsorted(versions, self._ids), len(versions) - 1)
        return np.flatnonzero(versions[at] == self._ids)

    def nearest(
        self, vector: NDArray[np.float32], rows: NDArray[np.int64], limit: int
    ) -> Sequence[int]:
        """Return the versions of the `limit` rows with the largest product with `vector`."""
        if len(rows) * 4 > len(self._ids):  # most of them: one product over all, without a copy
            scores = (self._rows[: len(self._ids)] @ vector)[rows]
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
