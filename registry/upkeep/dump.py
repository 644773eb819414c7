"""Dumping all rows of a database to a portable file in the format of `registry.upkeep.dump_format`.

A dump does not contain files. The folders of the blob store are copied separately, and artifacts
are built again.
"""

import gzip
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from merge.peft_format.atomic_files import atomic_file
from registry.storage.database import Database, ReadSession
from registry.storage.models import Table
from registry.upkeep import queries
from registry.upkeep.dump_format import FORMAT, VERSION, Dumped, encode, kind_of
from registry.upkeep.errors import DumpFailed

Progress = Callable[[int, int], None]
_LEVEL = 6
_PROGRESS_ROWS = 500  # the number of rows between two reports of progress


def dump(database: Database, path: Path, *, progress: Progress | None = None) -> Dumped:
    """Write a snapshot of all rows of all tables into a new file.

    Only the owner can read the file, because it contains hashes of keys and the names of all users.

    Args:
        database: the database, which other processes may use during the dump.
        path: the path of the new file, which must not exist.
        progress: called periodically with (rows written, total rows).

    Raises:
        DatabaseOutdated, DatabaseAhead: the schema does not have the current revision.
        DatabaseUnavailable: the database is unreadable.
        DumpFailed: the file exists or is not writable; an incomplete file is removed.
    """
    revision = database.check()
    with _created(path) as file, database.read() as session:
        dumped = Dumped(revision, queries.count_rows(session))
        header = {"format": FORMAT, "version": VERSION, "revision": revision, "rows": dumped.rows}
        _write(file, header)
        for done, line in enumerate(_lines(session, dumped)):
            _write(file, line)
            if progress is not None and done % _PROGRESS_ROWS == 0:
                progress(done, dumped.total)
    return dumped


def _lines(session: ReadSession, dumped: Dumped) -> Iterator[Any]:
    for name in dumped.rows:
        kinds = {
            column.name: kind_of(column.type) for column in Table.metadata.tables[name].columns
        }
        yield {"table": name, "columns": kinds}
        for row in queries.all_rows(session, name):
            yield [encode(kind, value) for kind, value in zip(kinds.values(), row, strict=True)]


def _write(file: TextIO, document: Any) -> None:
    json.dump(document, file, separators=(",", ":"))
    file.write("\n")


@contextmanager
def _created(path: Path) -> Iterator[TextIO]:
    """Yield a new gzipped text file, which is synced on exit, or removed after an error."""
    try:
        with (
            atomic_file(path, overwrite=False, mode=0o600) as raw,
            gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as zipped,
            io.TextIOWrapper(zipped, "utf-8") as file,
        ):
            yield file
    except OSError as error:
        raise DumpFailed(str(path), str(error.strerror)) from error
