"""The registry's benchmark runs on a few rows; its figures are not compared with anything."""

import json
from pathlib import Path

from tests.bench.many_rows import DIM, Vectors
from tests.bench.registry import Report, imports_per_second, on_postgresql, on_sqlite
from tests.postgresql import serve


def test_both_databases_are_searched(tmp_path: Path) -> None:
    """Rows made in bulk are found again; where an index sees all of them, its recall is 1."""
    vectors = Vectors(8)
    with serve() as server:
        postgresql = on_postgresql(server, 40, vectors)
    sqlite = on_sqlite(tmp_path, 40, vectors)
    for figures in (sqlite, postgresql):
        assert 0 < figures["p50"] <= figures["p95"]
    assert 1 == postgresql["recall_at_10"]
    assert [] == list(tmp_path.iterdir())


def test_imports_are_measured(tmp_path: Path) -> None:
    """An adapter of the pool's shapes is written, registered and removed."""
    assert imports_per_second(tmp_path, 1) > 0
    assert not (tmp_path / "adapter").exists()


def test_the_vectors_are_the_same_every_time() -> None:
    """What is stored can be drawn again to be held against what was found."""
    first, again = (list(Vectors(8).stored(2001)) for _ in range(2))
    assert [(2000, DIM), (1, DIM)] == [chunk.shape for chunk in first]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))


def test_figures_are_on_disk_as_soon_as_they_are_known(tmp_path: Path) -> None:
    """A run that is cut short leaves what it measured."""
    report = Report(tmp_path / "build" / "out.json")
    report.add(1.5, "import_per_s")
    report.add({"p50": 2.0}, "search_ms", "1k")
    found = json.loads((tmp_path / "build" / "out.json").read_text())
    assert {"import_per_s": 1.5, "search_ms": {"1k": {"p50": 2.0}}} == found
