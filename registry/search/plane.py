"""A map of adapters: embeddings projected on the plane in which they differ most.

The plane is that of a principal component analysis of what the caller sees, so that nothing hidden
shows in it. Not covered: when a map is computed again (the caller's).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from registry.callers import LOCAL, Caller
from registry.search import queries as search_queries
from registry.search.queries import Space
from registry.storage.database import Database, ReadSession
from registry.types import EmbeddingKind, ShownStatus
from registry.versions import queries

MOST_POINTS = 20_000
_AT_ONCE = 1000  # vectors that are read by one statement
_DIRECTIONS = 8  # that are iterated: more than two converge faster where eigenvalues are close
_ITERATIONS = 12
_SAMPLE = 4000  # rows that decide the axes
_NOTHING = 1e-6  # coordinates of unit vectors that are rounding


@dataclass(frozen=True, slots=True)
class Point:
    """The newest live version of an adapter, and its place: x and y from -1 to 1."""

    name: str
    number: int
    x: float
    y: float
    base: str
    rank: int
    owner: str
    status: ShownStatus
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plane:
    """A map by one kind of embedding, at one revision of the registry.

    `left_out` adapters have no vector in the space of most, or are more than a map shows.
    """

    revision: int
    kind: EmbeddingKind
    encoder: str | None  # None: no adapter has a vector
    points: tuple[Point, ...]
    left_out: int


class Mapper:
    """Makes maps. Threads may share one instance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def plane(self, kind: EmbeddingKind, caller: Caller = LOCAL) -> Plane:
        """Return the map of the adapters that the caller sees, by name.

        It takes 4 bytes for each number of their vectors, and seconds for ten thousand.
        """
        with self._database.read(caller) as session:
            revision = queries.revision(session)
            versions = search_queries.newest_visible(session, MOST_POINTS)
            total = search_queries.count_newest_visible(session)
            spaces = _spaces(session, kind, [version.id for version in versions])
            if not spaces:
                return Plane(revision, kind, None, (), total)
            space = max(sorted(spaces), key=lambda known: len(spaces[known]))
            shown = [version for version in versions if version.id in spaces[space]]
            vectors = _vectors(session, space, [version.id for version in shown])
            tags: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
            for row in queries.tags(session, [version.name for version in shown]):
                tags[row.name] += (row.tag,)
        places = principal_plane(vectors).round(4).tolist()
        points = tuple(
            Point(
                version.name, version.number, x, y, version.base, version.rank, version.created_by,
                version.status, tags[version.name],
            )
            for version, (x, y) in zip(shown, places, strict=True)
        )  # fmt: skip
        return Plane(revision, kind, space.encoder, points, total - len(points))


def _spaces(
    session: ReadSession, kind: EmbeddingKind, ids: Sequence[int]
) -> Mapping[Space, set[int]]:
    """Return the versions that have a vector in each space of a kind."""
    spaces: defaultdict[Space, set[int]] = defaultdict(set)
    for part in _parts(ids):
        for version, space in search_queries.spaces_of(session, kind, part):
            spaces[space].add(version)
    return spaces


def _vectors(session: ReadSession, space: Space, ids: Sequence[int]) -> NDArray[np.float32]:
    """Return the vectors of versions as rows, in their order."""
    rows = np.empty((len(ids), space.dim), np.float32)
    for start, part in zip(range(0, len(ids), _AT_ONCE), _parts(ids), strict=True):
        found = search_queries.vectors(session, space, part)
        for place, version in enumerate(part, start):
            rows[place] = found[version]
    return rows


def _parts(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield ids in parts: databases limit the values of a statement."""
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))


def principal_plane(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the rows on their two principal axes, (n, 2), the largest coordinate 1 or -1.

    The axes are found by subspace iteration on centred rows, at even distances where there are
    many. Their signs are such that the coordinate of largest size is positive.
    """
    n, dim = rows.shape
    if n < 2:
        return np.zeros((n, 2))
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    width = min(_DIRECTIONS, n, dim)
    start = np.random.default_rng(0).standard_normal((dim, width), np.float32)
    axes = np.linalg.qr(start)[0]
    sample = rows[:: max(1, n // _SAMPLE)]
    for _ in range(_ITERATIONS):
        axes = np.linalg.qr(sample.T @ _centred(sample, mean, axes))[0]
    found = _centred(rows, mean, axes).astype(np.float64)  # (n, width)
    turn = np.linalg.svd(found, full_matrices=False)[2]
    places: NDArray[np.float64] = np.zeros((n, 2))
    places[:, : min(2, width)] = (found @ turn.T)[:, :2]
    largest = places[np.abs(places).argmax(axis=0), (0, 1)]
    places *= np.where(largest < 0.0, -1.0, 1.0)
    size = float(np.abs(places).max())
    return places / size if size > _NOTHING else np.zeros((n, 2))


def _centred(
    rows: NDArray[np.float32], mean: NDArray[np.float32], axes: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return (rows - mean) @ axes."""
    product: NDArray[np.float32] = rows @ axes - mean @ axes
    return product
