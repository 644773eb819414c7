"""A row for each table, generated from the tables themselves, so that no table is omitted."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Integer,
    LargeBinary,
    String,
    insert,
)

from registry.storage.columns import UtcDateTime, VectorType
from registry.storage.database import WriteSession
from registry.storage.models import Table

TEXT = 'ns/ünï "quoted" \\ № 漢字 \N{SQUID} {braces} \t\n\x7f'
JSON_VALUE = {"a": [1, 2.5, None, True, {"deep": TEXT}], "big": 2**60, "small": 5e-324, "": ""}
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def fill(session: WriteSession, *, nulls: bool) -> dict[str, Mapping[str, Any]]:
    """Add one row to every table and return them by table.

    Args:
        session: of an empty database, the rows that migrations make included.
        nulls: leave out what may be left out; else every column has a value.
    """
    made: dict[str, Mapping[str, Any]] = {}
    for table in Table.metadata.sorted_tables:
        row = {
            column.name: None if nulls and column.nullable else _value(column, made)
            for column in table.columns
        }
        session.execute(insert(table), [row])
        made[table.name] = row
    return made


def _value(column: Column[Any], made: Mapping[str, Mapping[str, Any]]) -> Any:
    for key in column.foreign_keys:
        return made[key.column.table.name][key.column.name]
    for constraint in column.table.constraints:
        if isinstance(constraint, CheckConstraint):
            choice = re.match(rf"{column.name} IN \('(\w+)'", str(constraint.sqltext))
            if choice:
                return choice.group(1)
            if f"OR NOT {column.name}" in str(constraint.sqltext):
                return False
    for kind, value in _VALUES.items():
        if isinstance(column.type, kind):
            length = getattr(column.type, "length", None)
            return value[:length] if isinstance(value, str) else value
    raise AssertionError(f"{column} has a type that this file does not know: {column.type!r}")


# The first type that matches applies: BigInteger is a subclass of Integer.
_VALUES: Mapping[type[Any], Any] = {
    VectorType: np.array([1 / 3, -0.0, 1e-38], np.float32),
    UtcDateTime: MOMENT,
    BigInteger: 2**53 + 1,
    Integer: 1,
    Boolean: True,
    Double: 0.1,
    String: TEXT,
    JSON: JSON_VALUE,
    LargeBinary: bytes(range(256)),
}
