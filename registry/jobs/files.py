"""Rows of the files that clients upload. The bytes are stored elsewhere, under the file's id.

A file belongs to its caller's namespace and is visible only there. A removed file keeps its row,
because jobs refer to it, but no query returns it.
Not covered: the bytes, their content, and the form of ids (`server.jobs`).
"""

from collections.abc import Collection
from functools import partial

from registry.access import audit
from registry.callers import LOCAL, Caller
from registry.jobs import queries as job_queries
from registry.jobs.errors import FileInUse, UnknownFile
from registry.jobs.types import File
from registry.paging import Page, key_of, paged
from registry.storage.columns import now
from registry.storage.database import Database
from registry.storage.insert import insert
from registry.storage.job_models import FileRow
from registry.storage.values import value_of

_BATCH = 500  # ids in one query


class Files:
    """The files of a registry. Safe to share by threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        *,
        id: str,  # noqa: A002 - the name it has everywhere
        filename: str,
        purpose: str,
        bytes: int,  # noqa: A002 - the name it has everywhere
        digest: str,
        actor: str = "local",
        caller: Caller = LOCAL,
    ) -> File:
        """Add the row of a file whose bytes are already stored.

        Args:
            id: an id that no file has or had.
            filename: the client's name for the file.
            purpose: the purpose that the client states.
            bytes: the size.
            digest: SHA-256 of the bytes.
            actor: the sender, for the audit log.
            caller: the owner; callers of the same namespace see the file.

        Raises:
            Conflict: a file has or had this id.
            ValueRefused: a text holds NUL or unpaired surrogates.
        """
        row = FileRow(
            id=id, filename=filename, purpose=purpose, bytes=bytes, digest=digest,
            namespace=caller.namespace, created_at=now(), created_by=actor,
        )  # fmt: skip
        with self._database.transaction(caller) as session:
            insert(session, row)
            details = {"filename": filename, "bytes": bytes, "digest": digest}
            audit.record(session, actor, "file.added", id, namespace=row.namespace, **details)
            return value_of(File, row)

    def get(self, file_id: str, *, caller: Caller = LOCAL) -> File:
        """Return a file.

        Raises:
            UnknownFile: the caller sees no file with this id.
        """
        with self._database.read(caller) as session:
            row = job_queries.file(session, file_id)
            if row is None:
                raise UnknownFile(file_id)
            return value_of(File, row)

    def removed(self, some: Collection[str]) -> frozenset[str]:
        """Return which of some files, by id and of whomever, were removed."""
        ids, removed = sorted(some), list[str]()
        for start in range(0, len(ids), _BATCH):
            with self._database.read() as session:
                removed += job_queries.removed_files(session, ids[start : start + _BATCH])
        return frozenset(removed)

    def page(
        self,
        *,
        purpose: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        caller: Caller = LOCAL,
    ) -> Page[File]:
        """Return files, newest first.

        Args:
            purpose: return only files of this purpose.
            cursor: the end of the previous page; the key of the list "files" is a file's id.
            limit: the page size.
            caller: return only files that this caller sees.

        Raises:
            CursorInvalid: the cursor is of another list, or of a file that `caller` cannot see.
        """
        after = key_of("files", cursor, str)
        with self._database.read(caller) as session:
            place = job_queries.place_of(session, FileRow, after)
            rows = job_queries.files(session, purpose, place, limit + 1)
            return paged("files", rows, limit, lambda row: row.id, partial(value_of, File))

    def remove(self, file_id: str, *, actor: str = "local", caller: Caller = LOCAL) -> File:
        """Remove a file permanently and return its row; the caller may then delete the bytes.

        Raises:
            UnknownFile: the file was removed, or the caller cannot see it.
            FileInUse: a job that has not ended uses the file.
        """
        with self._database.transaction(caller) as session:
            row = job_queries.locked_file(session, file_id)
            if row is None:
                raise UnknownFile(file_id)
            job = job_queries.active_user_of(session, file_id)
            if job is not None:
                raise FileInUse(file_id, job)
            row.removed_at, row.removed_by = now(), actor
            audit.record(session, actor, "file.removed", file_id, namespace=row.namespace)
            return value_of(File, row)
