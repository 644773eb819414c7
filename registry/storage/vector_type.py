"""The column type of embeddings: pgvector's `vector` on PostgreSQL, float32 bytes elsewhere."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Dialect, LargeBinary
from sqlalchemy.types import TypeDecorator, TypeEngine

_VECTOR_INDEX = re.compile(r"ix_embeddings_[a-z]+_[0-9]+")


def in_metadata(name: str | None, kind: str, _parents: object) -> bool:
    """Say whether Alembic shall compare something with the metadata: all but pgvector's indexes.

    Only migrations know those: the metadata is SQLite's as well, which has no such thing.
    """
    return not (kind == "index" and name is not None and _VECTOR_INDEX.fullmatch(name))


class VectorType(TypeDecorator[NDArray[np.float32]]):
    """A (dim,) float32 vector; on SQLite its little-endian bytes.

    One column holds vectors of several lengths: the row's `dim` says which. pgvector takes up to
    16,000 numbers and indexes up to 2,000.
    """

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return what the database itself knows."""
        if dialect.name != "postgresql":
            return dialect.type_descriptor(LargeBinary())
        from pgvector.sqlalchemy import VECTOR

        return dialect.type_descriptor(VECTOR())

    def process_bind_param(self, value: NDArray[np.float32] | None, dialect: Dialect) -> Any:
        """Return `value` as the database takes it."""
        if value is None or dialect.name == "postgresql":
            return value
        return value.astype("<f4").tobytes()

    def process_result_value(self, value: Any, dialect: Dialect) -> NDArray[np.float32] | None:
        """Return what the database gave as a float32 array."""
        if value is None or dialect.name == "postgresql":
            return None if value is None else np.asarray(value, np.float32)
        return np.frombuffer(value, "<f4")
