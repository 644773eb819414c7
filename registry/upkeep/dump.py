"""All rows of a database in one portable file, as `registry.upkeep.dump_format` writes it.

Not covered: files. Adapters lie in the blob store under their digests and are copied as they are;
artifacts are built again.
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
_TOLD_EVERY = 500  # rows


def dump(database: Database, path: Path, *, progress: Progress | None = None) -> Dumped:
    """Write every row of every table, as they are at one moment, into a new file.

    Only its owner can read the file: there are hashes of keys and everybody's names in it.

    Args:
        database: it may be in use meanwhile.
        path: must not exist.
        progress: called with (rows written, rows in all) now and then.

    Raises:
        DatabaseOutdated, DatabaseAhead: its schema is not this weft's.
        DatabaseUnavailable: it cannot be read.
        DumpFailed: the file exists, or cannot be written; nothing of it is left.
    """
    revision = database.check()
    with _created(path) as file, database.read() as session:
        dumped = Dumped(revision, queries.count_rows(session))
        header = {"format": FORMAT, "version": VERSION, "revision": revision, "rows": dumped.rows}
        _write(file, header)
        for done, line in enumerate(_lines(session, dumped)):
            _write(file, line)
            if progress is not None and done % _TOLD_EVERY == 0:
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
    """Give a new gzipped text file, on disk for certain at the end, or gone after an error."""
    try:
        with (
            atomic_file(path, overwrite=False, mode=0o600) as raw,
            gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as zipped,
            io.TextIOWrapper(zipped, "utf-8") as file,
        ):
            yield file
    except OSError as error:
        raise DumpFailed(str(path), str(error.strerror)) from error
