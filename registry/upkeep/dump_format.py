"""The format of a dump: gzipped JSON lines in UTF-8 that describe their own contents.

    {"format": "weft-dump", "version": 1, "revision": "<schema>", "rows": {"<table>": n, …}}
    {"table": "<table>", "columns": {"<column>": "<kind>", …}}
    [<value>, …]                              one line per row, in the order of the columns

A kind is `plain` (text, number, true, false), `moment` (ISO 8601 with a time zone), `json`,
`vector` (base64 of little-endian float32) or `bytes` (base64). All kinds accept null. A table comes
after the tables that it refers to. `registry.upkeep.dump` writes the format, and
`registry.upkeep.restore` reads it.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from sqlalchemy import JSON, DateTime, LargeBinary
from sqlalchemy.types import NullType, TypeEngine

from registry.storage.columns import UtcDateTime, VectorType

FORMAT = "weft-dump"
VERSION = 1
Kind: TypeAlias = Literal["plain", "moment", "json", "vector", "bytes"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Dumped:
    """The contents of a dump: the revision of the schema, and the number of rows by table."""

    revision: str
    rows: Mapping[str, int]

    @property
    def total(self) -> int:
        """The number of rows of all tables."""
        return sum(self.rows.values())


def kind_of(column: TypeEngine[Any]) -> Kind:
    """Return the kind of a column's values."""
    if isinstance(column, UtcDateTime):
        return "moment"
    if isinstance(column, VectorType):
        return "vector"
    if isinstance(column, LargeBinary):
        return "bytes"
    assert not isinstance(
        column, DateTime
    )  # a timestamp without a zone is ambiguous on another machine
    return "json" if isinstance(column, JSON) else "plain"


def type_of(kind: Kind) -> TypeEngine[Any]:
    """Return the column type that writes decoded values to SQLite or PostgreSQL."""
    types: Mapping[Kind, TypeEngine[Any]] = {
        "moment": UtcDateTime(),
        "vector": VectorType(),
        "bytes": LargeBinary(),
        "json": JSON(none_as_null=True),
    }
    return types.get(kind, NullType())


def encode(kind: Kind, value: Any) -> Any:
    """Return a column's value as a JSON value."""
    if value is None or kind in ("plain", "json"):
        return value
    if kind == "moment":
        return value.isoformat()
    data = value.astype("<f4").tobytes() if kind == "vector" else value
    return base64.b64encode(data).decode("ascii")


def decode(kind: Kind, value: Any) -> Any:
    """Return a column's value from its JSON value: the inverse of `encode`.

    Raises:
        ValueError, TypeError, OverflowError: the value does not have this kind.
    """
    if value is None or kind == "json":
        return value
    if kind == "plain":
        if not isinstance(value, str | int | float):
            raise TypeError("expected a text or a number")
        return value
    if kind == "moment":
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("expected a timestamp with a time zone")
        return moment.astimezone(UTC)
    data = base64.b64decode(value, validate=True)
    return np.frombuffer(data, "<f4") if kind == "vector" else data
