"""The two searches for nearest vectors: a full scan, and pgvector's index."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import event, text

from registry.search import queries as search_queries
from registry.search.embeddings import write
from registry.search.encoder import unit_rows
from registry.search.filters import Condition, parse_filter
from registry.search.nearest import Index, Scan
from registry.search.queries import Space
from registry.storage.database import Database, ReadSession
from registry.storage.models import AdapterRow, AdapterVersionRow, BaseRow, NameRow
from registry.versions import queries

DIM = 384  # a dim that PostgreSQL has an index for
SPACE = Space("text", "random", DIM)


def fill(database: Database, count: int, *, first: int = 0) -> NDArray[np.float32]:
    """Add adapters with one version each, of rank 1 to 4, and return their random vectors."""
    vectors = unit_rows(np.random.default_rng(first).normal(size=(count, DIM)))
    now = datetime.now(UTC)
    with database.transaction() as session:
        if first == 0:
            session.add(NameRow(name="base", kind="base", created_at=now, created_by="me",
                                visibility="public"))  # fmt: skip
            session.flush()
            session.add(BaseRow(name="base", shapes={}))
            session.flush()
        names = [f"a{first + i}" for i in range(count)]
        session.add_all(
            NameRow(name=name, kind="adapter", created_at=now, created_by="me", visibility="public")
            for name in names
        )
        session.flush()
        session.add_all(AdapterRow(name=name) for name in names)
        session.flush()
        rows = [
            AdapterVersionRow(
                name=name, number=1, digest=f"{first + i:064d}", base="base", rank=1 + i % 4,
                modules={}, use_rslora=False, dtypes=[], bytes=1, norm=1.0, status="admitted",
                report={}, created_at=now, created_by="me",
            )
            for i, name in enumerate(names)
        ]  # fmt: skip
        session.add_all(rows)
        session.flush()
        write(session, "text", "random", {row.id: v for row, v in zip(rows, vectors, strict=True)})
    return vectors


def test_the_nearest_are_found(database: Database) -> None:
    """Both searches return the versions with the largest products, nearest first."""
    vectors = fill(database, 300)
    query = unit_rows(np.random.default_rng(9).normal(size=DIM))
    expected = list(np.argsort(-(vectors @ query))[:5] + 1)
    with database.read() as session:
        assert expected == list(Index().nearest(session, SPACE, query, (), 5))


def test_filters_narrow_what_is_found(database: Database) -> None:
    """The result is the requested number of nearest versions among those that satisfy the
    filter.
    """
    vectors = fill(database, 300)
    query = vectors[0]
    ranks = np.arange(300) % 4 + 1
    order = np.argsort(-(vectors @ query))
    for filter_, kept in (("rank=3", ranks == 3), ("rank<=3", ranks <= 3)):
        expected = [int(i) + 1 for i in order if kept[i]][:10]
        with database.read() as session:
            found = Index().nearest(session, SPACE, query, parse_filter(filter_), 10)
        assert expected == list(found)


def test_more_than_there_are(database: Database) -> None:
    """A space with fewer versions than the limit returns all; an unused space returns none."""
    fill(database, 3)
    query = np.ones(DIM, np.float32)
    with database.read() as session:
        index = Index()
        assert 3 == len(index.nearest(session, SPACE, query, (), 10))
        assert [] == list(index.nearest(session, SPACE, query, parse_filter("rank>9"), 10))
        other = Space("text", "another", DIM)
        assert [] == list(index.nearest(session, other, query, (), 10))


def test_a_scan_reads_what_is_new_only(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first search reads all vectors, later ones only the new ones."""
    read: list[int] = []
    since = search_queries.embeddings_since

    def counting(session: ReadSession, space: Space, revision: int) -> object:
        rows = list(since(session, space, revision))
        read.append(len(rows))
        return rows

    monkeypatch.setattr(search_queries, "embeddings_since", counting)
    scan = Scan()
    vectors = fill(sqlite_database, 20)
    for _ in range(2):
        with sqlite_database.read() as session:
            assert [8] == list(scan.nearest(session, SPACE, vectors[7], (), 1))
    more = fill(sqlite_database, 5, first=20)
    with sqlite_database.read() as session:
        assert [24] == list(scan.nearest(session, SPACE, more[3], (), 1))
    assert [20, 5] == read


def test_a_scan_follows_a_vector_that_changes(sqlite_database: Database) -> None:
    """A rewritten vector is used, in its old row."""
    vectors = fill(sqlite_database, 20)
    scan = Scan()
    with sqlite_database.read() as session:
        assert [8] == list(scan.nearest(session, SPACE, vectors[7], (), 1))
    with sqlite_database.transaction() as writer:
        write(writer, "text", "random", {1: vectors[7], 8: vectors[0]})
    with sqlite_database.read() as session:
        assert [1] == list(scan.nearest(session, SPACE, vectors[7], (), 1))
        assert [8] == list(scan.nearest(session, SPACE, vectors[0], (), 1))


def test_what_has_left_a_space_is_not_found_there(database: Database) -> None:
    """A version embedded by another encoder is only in that encoder's space."""
    vectors = fill(database, 20)
    index, other = Index(), Space("text", "other", DIM)
    with database.read() as session:
        assert [8, 4] == list(index.nearest(session, SPACE, vectors[7] + vectors[3] / 2, (), 2))
    with database.transaction() as writer:
        write(writer, "text", "other", {8: vectors[7]})
    with database.read() as session:
        assert [4] == list(index.nearest(session, SPACE, vectors[7] + vectors[3] / 2, (), 1))
        assert 19 == len(index.nearest(session, SPACE, vectors[7], (), 50))
        assert [8] == list(index.nearest(session, other, vectors[7], (), 5))
    with database.transaction() as writer:
        write(writer, "text", "random", {8: vectors[7]})
    with database.read() as session:
        assert [8] == list(index.nearest(session, SPACE, vectors[7], (), 1))
        assert [] == list(index.nearest(session, other, vectors[7], (), 5))


@pytest.mark.parametrize("filter_", ["", "rank=3", "rank>1", "name=a77", "owner=nobody"])
@pytest.mark.parametrize("limit", [1, 7, 80, 500])
def test_filters_of_any_width_give_the_same_order(
    sqlite_database: Database, filter_: str, limit: int
) -> None:
    """For any filter, the result is the filtered full ranking up to the limit."""
    vectors = fill(sqlite_database, 300)
    names, ranks = [f"a{i}" for i in range(300)], np.arange(300) % 4 + 1
    kept = {
        "": ranks > 0, "rank=3": ranks == 3, "rank>1": ranks > 1, "owner=nobody": ranks < 0,
        "name=a77": np.array(names) == "a77",
    }[filter_]  # fmt: skip
    query = unit_rows(np.random.default_rng(9).normal(size=DIM))
    expected = [int(i) + 1 for i in np.argsort(-(vectors @ query)) if kept[i]][:limit]
    scan = Scan()
    for _ in range(2):  # what a filter lets through may be remembered
        with sqlite_database.read() as session:
            assert expected == list(
                scan.nearest(session, SPACE, query, parse_filter(filter_), limit)
            )


def test_a_filter_that_lets_most_through_is_not_read_in_full(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a change a search queries only the nearest candidates, not all matches."""
    asked: list[int | None] = []
    candidates = search_queries.candidates

    def noting(
        session: ReadSession, conditions: Iterable[Condition], among: Sequence[int] | None = None
    ) -> NDArray[np.int64]:
        asked.append(None if among is None else len(among))
        return candidates(session, conditions, among)

    vectors = fill(sqlite_database, 300)
    monkeypatch.setattr(search_queries, "candidates", noting)
    scan = Scan()
    for filter_ in ("", "rank<4", "name=a299"):
        with sqlite_database.read() as session:
            scan.nearest(session, SPACE, vectors[0], parse_filter(filter_), 5)
    assert [10, 10, 10, None] == asked


def test_who_has_the_lock_waits_for_no_connection(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session's first statement, which needs a connection, runs before the lock is taken."""
    locked: list[bool] = []
    scan, revision = Scan(), queries.revision

    def noting(session: ReadSession) -> int:
        locked.append(scan._lock.locked())
        return revision(session)

    monkeypatch.setattr(queries, "revision", noting)
    with sqlite_database.read() as session:
        scan.nearest(session, SPACE, np.ones(DIM, np.float32), (), 1)
    assert [False] == locked


def test_of_equals_the_older_comes_first(sqlite_database: Database) -> None:
    """A tie at the limit is decided by age."""
    vectors = fill(sqlite_database, 50)
    same = dict.fromkeys(range(11, 41), vectors[0])
    with sqlite_database.transaction() as writer:
        write(writer, "text", "random", same)
    with sqlite_database.read() as session:
        found = Scan().nearest(session, SPACE, vectors[0], (), 6)
    assert [1, 11, 12, 13, 14, 15] == list(found)


def test_the_index_is_used(postgresql_database: Database) -> None:
    """On PostgreSQL the search of a common dim is a scan of its HNSW index, filters and all."""
    fill(postgresql_database, 300)
    said: list[tuple[str, object]] = []
    with postgresql_database.read() as session:
        event.listen(
            session.get_bind(), "before_cursor_execute", lambda *call: said.append(call[2:4])
        )
        # So few rows are also found by a scan and a sort; which is cheaper depends on statistics.
        session.execute(text("SET LOCAL enable_seqscan = off"))
        session.execute(text("SET LOCAL enable_sort = off"))
        search_queries.nearest_by_index(
            session, SPACE, np.ones(DIM, np.float32), parse_filter("rank<3"), 5
        )
        statement, parameters = said[-1]
        plan = session.connection().exec_driver_sql(f"EXPLAIN {statement}", parameters)  # type: ignore[arg-type]  # as the driver had them
        assert "ix_embeddings_text_384" in "\n".join(row[0] for row in plan)


def test_where_the_index_gives_up_all_are_compared(postgresql_database: Database) -> None:
    """A filter that few of the nearest satisfy still returns all matches up to the limit, in
    order.
    """
    vectors = fill(postgresql_database, 600)
    query = unit_rows(np.random.default_rng(9).normal(size=DIM))
    expected = [int(i) + 1 for i in np.argsort(-(vectors @ query)) if i % 4 == 2]
    with postgresql_database.read() as session:
        for setting in ("enable_seqscan = off", "enable_sort = off", "hnsw.max_scan_tuples = 1"):
            session.execute(text(f"SET LOCAL {setting}"))
        found = search_queries.nearest_by_index(session, SPACE, query, parse_filter("rank=3"), 150)
    assert expected == list(found)


def test_vectors_keep_their_bits(database: Database) -> None:
    """float32 goes in and the same float32 comes out, extreme ones too."""
    fill(database, 1)
    odd = np.array([1e-30, -0.0, 1 / 3, np.finfo(np.float32).max, 1.17549435e-38], np.float32)
    with database.transaction() as session:
        write(session, "behaviour", "probe", {1: odd})
    with database.read() as session:
        found = search_queries.vectors(session, Space("behaviour", "probe", 5), [1])
    np.testing.assert_array_equal(odd, found[1])
