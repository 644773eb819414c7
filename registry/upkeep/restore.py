"""Restoring a dump into an empty SQLite or PostgreSQL database.

The rows are loaded into the schema of the dump's revision, which is then upgraded, so dumps of
earlier versions can be restored. A restore does not copy files (see `registry.upkeep.dump`) and
does not combine two registries.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from alembic import command
from sqlalchemy import Connection, column, table
from sqlalchemy.exc import DataError, IntegrityError

import migrations
from registry.storage.database import Database, migrations_config
from registry.upkeep import queries
from registry.upkeep.dump import Progress
from registry.upkeep.dump_format import FORMAT, KINDS, VERSION, Dumped, Kind, decode, type_of
from registry.upkeep.errors import DatabaseNotEmpty, DumpInvalid

_ROWS_AT_ONCE = 500
# The largest rows have an adapter's modules, report and card: a few megabytes. The limit stops a
# small hostile file that decompresses to a line of gigabytes.
_MAX_LINE = 2**26
# The migrations insert a row into these tables, so it does not show that the database is in use.
_SEEDED = frozenset({"changes", "revision"})


def restore(database: Database, path: Path, *, progress: Progress | None = None) -> Dumped:
    """Restore a dump into an empty database and upgrade its schema to the current revision.

    The restore is one transaction: an error or a crash leaves the database unchanged. At the end,
    the number of rows of each table is compared with the dump.

    Args:
        database: a database without rows, which no other process uses.
        path: a file that `registry.upkeep.dump.dump` wrote in this or an earlier version of weft.
        progress: called periodically with (rows read, total rows).

    Raises:
        DumpInvalid: the file is not a dump, is damaged or truncated, or has a newer format.
        DatabaseNotEmpty: the database has rows; the error lists the tables.
        DatabaseAhead, DatabaseUnavailable: see `Database.upgrade`.
        OSError: the file is unreadable.
    """
    with _opened(path) as reader, database.schema_change() as connection:
        dumped = _header(reader)
        _build(connection, dumped.revision)
        if unknown := set(dumped.rows) - queries.tables_of(connection):
            raise reader.invalid(f"schema {dumped.revision} has no table {min(unknown)!r}")
        _load(connection, reader, dumped, progress)
        for name, expected in dumped.rows.items():
            loaded = queries.rows_in(connection, name)
            if loaded != expected:
                raise reader.invalid(f"the file ends with {loaded} of {expected} rows of {name}")
        command.upgrade(migrations_config(connection), "head")
    return dumped


class _Reader:
    """The lines of a dump, and the number of the current line."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        self.line = 0

    def __iter__(self) -> Iterator[Any]:
        """Yield the JSON value of each line, or raise DumpInvalid."""
        while True:
            self.line += 1
            try:
                text = self._file.readline(_MAX_LINE)
                if len(text) == _MAX_LINE:
                    raise self.invalid("the line is too long")
                document = json.loads(text) if text else None
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise self.invalid(f"the file is damaged or truncated ({error})") from error
            except (ValueError, RecursionError) as error:
                raise self.invalid("the line is not JSON") from error
            if not text:
                return
            yield document

    def invalid(self, reason: str) -> DumpInvalid:
        """Return the error for the current line."""
        return DumpInvalid(str(self._path), self.line, reason)


@contextmanager
def _opened(path: Path) -> Iterator[_Reader]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield _Reader(path, file)


def _header(reader: _Reader) -> Dumped:
    header = next(iter(reader), None)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise reader.invalid("the file is not a dump of weft")
    version, revision, rows = (header.get(key) for key in ("version", "revision", "rows"))
    if version != VERSION or str(revision) not in migrations.revisions():
        raise reader.invalid(
            f"this version of weft does not support format {version!r} with schema {revision!r}; "
            "install the version that wrote the dump, or a newer one"
        )
    if not isinstance(rows, dict) or not all(type(n) is int and n >= 0 for n in rows.values()):
        raise reader.invalid("expected the number of rows by table")
    return Dumped(str(revision), rows)


def _build(connection: Connection, revision: str) -> None:
    """Create the empty tables of a revision.

    Raises:
        DatabaseNotEmpty: the database has rows.
    """
    present = queries.tables_of(connection)
    filled = [name for name in sorted(present - _SEEDED) if queries.rows_in(connection, name)]
    if filled:
        raise DatabaseNotEmpty(filled)
    config = migrations_config(connection)
    command.downgrade(config, "base")
    command.upgrade(config, revision)
    for name in queries.tables_of(connection) & _SEEDED:
        queries.empty(connection, name)


def _load(
    connection: Connection, reader: _Reader, dumped: Dumped, progress: Progress | None
) -> None:
    current: _Loader | None = None
    done = 0
    for line in reader:
        if isinstance(line, dict):
            if current is not None:
                current.finish()
            current = _Loader(connection, reader, line, dumped)
            continue
        if current is None or not isinstance(line, list):
            raise reader.invalid("expected a table or a row")
        done += 1
        if done > dumped.total:
            raise reader.invalid(f"the file has more rows than the {dumped.total} of its header")
        current.add(line)
        if progress is not None and done % _ROWS_AT_ONCE == 0:
            progress(done, dumped.total)
    if current is not None:
        current.finish()


class _Loader:
    """Inserts the rows of one table in batches."""

    def __init__(
        self, connection: Connection, reader: _Reader, line: Mapping[str, Any], dumped: Dumped
    ) -> None:
        self._connection, self._reader = connection, reader
        name, self._kinds = self._checked(line, dumped)
        self._table = table(name, *(column(c, type_of(k)) for c, k in self._kinds.items()))
        self._rows: list[dict[str, Any]] = []

    def _checked(self, line: Mapping[str, Any], dumped: Dumped) -> tuple[str, dict[str, Kind]]:
        name, kinds = line.get("table"), line.get("columns")
        tables = queries.tables_of(self._connection) & set(dumped.rows)
        if not isinstance(name, str) or name not in tables:
            raise self._reader.invalid(f"schema {dumped.revision} has no table {name!r}")
        expected = queries.columns_of(self._connection, name)
        if not isinstance(kinds, dict) or expected != set(kinds):
            raise self._reader.invalid(f"expected the columns {', '.join(sorted(expected))}")
        if not all(kind in KINDS for kind in kinds.values()):
            raise self._reader.invalid(f"expected columns of the kinds {', '.join(KINDS)}")
        return name, kinds

    def add(self, row: list[Any]) -> None:
        """Decode a row from its line, and insert it with its batch."""
        try:
            self._rows.append(
                {
                    name: decode(kind, value)
                    for (name, kind), value in zip(self._kinds.items(), row, strict=True)
                }
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise self._reader.invalid(
                f"the row does not fit {self._table.name}: {error}"
            ) from error
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def finish(self) -> None:
        """Insert the remaining rows."""
        self._flush()
        queries.advance_counters(self._connection, self._table)

    def _flush(self) -> None:
        if not self._rows:
            return
        try:
            queries.load(self._connection, self._table, self._rows)
        except (IntegrityError, DataError, OverflowError) as error:
            reason = f"this or an earlier row does not fit {self._table.name} ({error})"
            raise self._reader.invalid(reason) from error
        self._rows.clear()
