"""The base class of all tables, the names of constraints, and the column types.

The tables are in `registry.storage.models` and `registry.storage.job_models`; importing the first
registers all of them.
"""

import re
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import JSON, DateTime, Dialect, LargeBinary, MetaData, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC timestamp, on databases with and without time zones (SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return `value` in UTC, or raise ValueError if it has no time zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone: expected an aware timestamp")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the stored timestamp in UTC, whether or not the database stores the zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """The base class of all tables."""

    metadata = MetaData(
        naming_convention={
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: UtcDateTime(),
        dict[str, Any]: JSON(),
        list[str]: JSON(),
    }


def now() -> datetime:
    """Return the current time for the timestamps of rows."""
    return datetime.now(UTC)


class NamespaceOf(FunctionElement[str]):
    """The part of a name up to its first slash, with the slash; "" if it has none."""

    type = String()
    inherit_cache = True


@compiles(NamespaceOf)
def _namespace_of(element: NamespaceOf, compiler: SQLCompiler, **options: Any) -> str:
    name = compiler.process(element.clauses, **options)
    position = "strpos" if compiler.dialect.name == "postgresql" else "instr"
    return f"substr({name}, 1, {position}({name}, '/'))"


_VECTOR_INDEX = re.compile(r"ix_embeddings_[a-z]+_[0-9]+")


def in_metadata(name: str | None, kind: str, _parents: object) -> bool:
    """Return whether Alembic compares an object with the metadata: all but pgvector's indexes.

    Only migrations define these indexes, because SQLite uses the same metadata and lacks them.
    """
    return not (kind == "index" and name is not None and _VECTOR_INDEX.fullmatch(name))


class VectorType(TypeDecorator[NDArray[np.float32]]):
    """A float32 vector of shape (dim,), stored on SQLite as little-endian bytes.

    A column can store vectors of several lengths; `dim` of the row is the length. pgvector stores
    up to 16,000 dimensions and indexes up to 2,000.
    """

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the column type of the database."""
        if dialect.name != "postgresql":
            return dialect.type_descriptor(LargeBinary())
        from pgvector.sqlalchemy import VECTOR

        return dialect.type_descriptor(VECTOR())

    def process_bind_param(self, value: NDArray[np.float32] | None, dialect: Dialect) -> Any:
        """Return `value` in the representation of the database."""
        if value is None or dialect.name == "postgresql":
            return value
        return value.astype("<f4").tobytes()

    def process_result_value(self, value: Any, dialect: Dialect) -> NDArray[np.float32] | None:
        """Return the stored value as a float32 array."""
        if value is None or dialect.name == "postgresql":
            return None if value is None else np.asarray(value, np.float32)
        return np.frombuffer(value, "<f4")
