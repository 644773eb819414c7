"""A registry of very many adapters, made in little time: rows by SQL, vectors by bulk copy.

Past all rules: nothing but search is to be tried on it.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Text, cast, func, insert, literal, select, text

from registry.search.encoder import unit_rows
from registry.storage.models import (
    AdapterRow,
    AdapterVersionRow,
    BaseRow,
    EmbeddingRow,
    NameRow,
    Table,
)

DIM = 384
QUESTIONS = 100
_NOISE = 0.2
_CHUNK = 2000
# A row of `embeddings` as PostgreSQL's COPY takes it in binary: each field after its length.
_FIELDS: list[tuple[str, Any]] = [
    ("version_id", ">i4"), ("kind", "S4"), ("encoder", "S5"), ("dim", ">i4"),
    ("vector", [("dim", ">i2"), ("zero", ">i2"), ("numbers", ">f4", DIM)]), ("revision", ">i8"),
]  # fmt: skip
_COPIED = np.dtype(
    [("fields", ">i2")] + [part for f in _FIELDS for part in ((f"{f[0]} length", ">i4"), f)]
)


@dataclass(frozen=True)
class Vectors:
    """Random unit vectors near a random subspace, always the same; as an encoder, the questions."""

    degrees: int
    name = "bench"
    dim = DIM

    def stored(self, count: int) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors of versions 1 to `count`, chunk by chunk."""
        rng = np.random.default_rng(0)
        for start in range(0, count, _CHUNK):
            yield self._draw(rng, min(_CHUNK, count - start))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the questions of these numbers, none of which is stored."""
        return self._draw(np.random.default_rng(1), QUESTIONS)[[int(text) for text in texts]]

    def _draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float32]:
        shape = self.degrees, DIM
        subspace = np.random.default_rng(2).standard_normal(shape, np.float32) / shape[0] ** 0.5
        inside = rng.standard_normal((count, self.degrees), np.float32) @ subspace
        return unit_rows(inside + _NOISE * rng.standard_normal((count, DIM), np.float32))


def fill(connection: Connection, base: str, count: int, vectors: Vectors) -> None:
    """Add adapters a1, a2, … of one version each, whose ids are 1, 2, …."""
    stamp: dict[str, Any] = {"created_at": datetime.now(UTC), "created_by": "bench"}
    named = {"visibility": "public"} | stamp
    postgresql = connection.dialect.name == "postgresql"
    if postgresql:  # checking every foreign key would take minutes
        connection.execute(text("SET LOCAL session_replication_role = replica"))
    connection.execute(insert(NameRow), [{"name": base, "kind": "base"} | named])
    connection.execute(insert(BaseRow), [{"name": base, "shapes": {}}])
    numbers = select(literal(1).label("i")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.i + 1).where(numbers.c.i < count))
    digits = cast(numbers.c.i, Text)
    name = literal("a") + digits
    digest = func.substr(literal("0" * 64) + digits, func.length(digits) + 1)
    _insert(connection, NameRow, name=name, kind="adapter", **named)
    _insert(connection, AdapterRow, name=name)
    _insert(
        connection, AdapterVersionRow, id=numbers.c.i, name=name, number=1, digest=digest,
        base=base, rank=8 + 8 * (numbers.c.i % 4), modules={}, use_rslora=False, dtypes=["BF16"],
        bytes=1, norm=1.0, status="admitted", report={}, **stamp,
    )  # fmt: skip
    add = _copy_vectors if postgresql else _insert_vectors
    add(connection, vectors.stored(count))
    connection.execute(text("UPDATE revision SET number = 1"))


def _insert(connection: Connection, table: type[Table], **values: Any) -> None:
    """Add a row per number; a value that is not an SQL expression is the same in every row."""
    columns = table.__table__.c
    made = [
        value if isinstance(value, ColumnElement) else literal(value, columns[name].type)
        for name, value in values.items()
    ]
    connection.execute(insert(table).from_select(list(values), select(*made)))


def _insert_vectors(connection: Connection, chunks: Iterable[NDArray[np.float32]]) -> None:
    ids = itertools.count(1)
    for chunk in chunks:
        rows = [
            {"version_id": next(ids), "kind": "text", "encoder": Vectors.name, "dim": DIM,
             "vector": vector, "revision": 1}
            for vector in chunk
        ]  # fmt: skip
        connection.execute(insert(EmbeddingRow), rows)


def _copy_vectors(connection: Connection, chunks: Iterable[NDArray[np.float32]]) -> None:
    names = ", ".join(name for name, _ in _FIELDS)
    driver = connection.connection.driver_connection
    assert driver is not None  # it has just worked
    begin = 1
    with driver.cursor().copy(f"COPY embeddings ({names}) FROM STDIN WITH (FORMAT BINARY)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        for chunk in chunks:
            copy.write(_copied(begin, chunk))
            begin += len(chunk)
        copy.write(b"\xff\xff")


def _copied(begin: int, chunk: NDArray[np.float32]) -> bytes:
    rows = np.zeros(len(chunk), _COPIED)
    rows["fields"] = len(_FIELDS)
    for name, _ in _FIELDS:
        rows[f"{name} length"] = _COPIED[name].itemsize
    rows["version_id"] = np.arange(begin, begin + len(chunk))
    rows["kind"], rows["encoder"], rows["dim"], rows["revision"] = "text", Vectors.name, DIM, 1
    rows["vector"]["dim"], rows["vector"]["numbers"] = DIM, chunk
    return rows.tobytes()
