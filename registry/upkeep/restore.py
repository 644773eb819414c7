"""A dump back into an empty database of either kind.

The rows go into the schema that they were dumped from, which is then upgraded: an old dump is as
good as a new one.
Not covered: files (`registry.upkeep.dump`), and putting two registries together.
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
# A row is an adapter's modules, report and card at most, a few megabytes; a kilobyte of gzip can
# unfold into one line of gigabytes.
_MAX_LINE = 2**26
# The migrations put a row in here; it says nothing about what is registered.
_SEEDED = frozenset({"revision"})


def restore(database: Database, path: Path, *, progress: Progress | None = None) -> Dumped:
    """Read a dump into an empty database and bring its schema to this weft's revision.

    All of it is one transaction: after an error or a crash the database is as it was. At the end
    the rows of every table are counted and held against the dump.

    Args:
        database: without tables, or with empty ones. Nobody else should use it yet.
        path: of a file that `registry.upkeep.dump.dump` wrote, by this weft or an earlier one.
        progress: called with (rows read, rows in all) now and then.

    Raises:
        DumpInvalid: the file is no dump, damaged or cut off, or a newer weft's.
        DatabaseNotEmpty: naming the tables that have rows.
        DatabaseAhead, DatabaseUnavailable: as `Database.upgrade`.
        OSError: the file cannot be read.
    """
    with _opened(path) as reader, database.schema_change() as connection:
        dumped = _header(reader)
        _build(connection, dumped.revision)
        if strangers := set(dumped.rows) - queries.tables_of(connection):
            raise reader.invalid(f"no table {min(strangers)!r} in schema {dumped.revision}")
        _load(connection, reader, dumped, progress)
        for name, expected in dumped.rows.items():
            found = queries.rows_in(connection, name)
            if found != expected:
                raise reader.invalid(f"the file ends with {found} of {expected} rows of {name}")
        command.upgrade(migrations_config(connection), "head")
    return dumped


class _Reader:
    """The lines of a dump, and the one that was read last."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        self.line = 0

    def __iter__(self) -> Iterator[Any]:
        """Yield what each line holds; DumpInvalid when that is not to be known."""
        while True:
            self.line += 1
            try:
                text = self._file.readline(_MAX_LINE)
                if len(text) == _MAX_LINE:
                    raise self.invalid("the line is longer than any row")
                document = json.loads(text) if text else None
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise self.invalid(f"the file is damaged or cut off ({error})") from error
            except (ValueError, RecursionError) as error:
                raise self.invalid("it is not JSON") from error
            if not text:
                return
            yield document

    def invalid(self, reason: str) -> DumpInvalid:
        """Return the error for what is wrong with the current line."""
        return DumpInvalid(str(self._path), self.line, reason)


@contextmanager
def _opened(path: Path) -> Iterator[_Reader]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield _Reader(path, file)


def _header(reader: _Reader) -> Dumped:
    found = next(iter(reader), None)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise reader.invalid("the file is no dump of weft's")
    version, revision, rows = (found.get(key) for key in ("version", "revision", "rows"))
    if version != VERSION or str(revision) not in migrations.revisions():
        raise reader.invalid(
            f"it has format {version!r} and schema {revision!r}, unknown here; install the weft "
            "that wrote it, or a newer one"
        )
    if not isinstance(rows, dict) or not all(type(n) is int and n >= 0 for n in rows.values()):
        raise reader.invalid("expected the number of rows by table")
    return Dumped(str(revision), rows)


def _build(connection: Connection, revision: str) -> None:
    """Make the tables of a revision, without rows.

    Raises:
        DatabaseNotEmpty: there are rows in the way.
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
            raise reader.invalid(f"there are more rows than the {dumped.total} it announced")
        current.add(line)
        if progress is not None and done % _ROWS_AT_ONCE == 0:
            progress(done, dumped.total)
    if current is not None:
        current.finish()


class _Loader:
    """Puts rows into one table, many at a time."""

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
            raise self._reader.invalid(f"no table {name!r} in schema {dumped.revision}")
        expected = queries.columns_of(self._connection, name)
        if not isinstance(kinds, dict) or expected != set(kinds):
            raise self._reader.invalid(f"expected the columns {', '.join(sorted(expected))}")
        if not all(kind in KINDS for kind in kinds.values()):
            raise self._reader.invalid(f"expected columns of the kinds {', '.join(KINDS)}")
        return name, kinds

    def add(self, row: list[Any]) -> None:
        """Take a row, as its line has it."""
        try:
            self._rows.append(
                {
                    name: decode(kind, value)
                    for (name, kind), value in zip(self._kinds.items(), row, strict=True)
                }
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise self._reader.invalid(f"no row of {self._table.name}: {error}") from error
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def finish(self) -> None:
        """Store what is left."""
        self._flush()
        queries.advance_counters(self._connection, self._table)

    def _flush(self) -> None:
        if not self._rows:
            return
        try:
            queries.load(self._connection, self._table, self._rows)
        except (IntegrityError, DataError, OverflowError) as error:
            reason = f"a row of {self._table.name} up to here does not fit ({error})"
            raise self._reader.invalid(reason) from error
        self._rows.clear()
