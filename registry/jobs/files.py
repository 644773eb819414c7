"""Files that clients upload: rows about them. Their bytes are stored elsewhere, by the file's id.

A file belongs to its caller's namespace and is seen from there alone. A removed one keeps its row,
since jobs refer to it, and is never found again.
Not covered: the bytes, what is in them, and the form of ids (`server.jobs`).
"""

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
        """Add a file whose bytes are in place already.

        Args:
            id: one that no file ever had.
            filename: as the client calls it.
            purpose: what it is for.
            bytes: how many it has.
            digest: SHA-256 of them.
            actor: who sent it.
            caller: for whom; it is found by callers of the same namespace.

        Raises:
            Conflict: a file has or had this id.
            ValueRefused: text that no database can keep.
        """
        row = FileRow(
            id=id, filename=filename, purpose=purpose, bytes=bytes, digest=digest,
            namespace=caller.namespace, created_at=now(), created_by=actor,
        )  # fmt: skip
        with self._database.transaction(caller) as session:
            insert(session, row)
            said = {"filename": filename, "bytes": bytes, "digest": digest}
            audit.record(session, actor, "file.added", id, namespace=row.namespace, **said)
            return value_of(File, row)

    def get(self, file_id: str, *, caller: Caller = LOCAL) -> File:
        """Return a file.

        Raises:
            UnknownFile: no such row is visible to the caller.
        """
        with self._database.read(caller) as session:
            row = job_queries.file(session, file_id)
            if row is None:
                raise UnknownFile(file_id)
            return value_of(File, row)

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
            purpose: only files of this one.
            cursor: where the page before ended; the key of the list "files" is a file's id.
            limit: how many.
            caller: only files that are visible to this one.

        Raises:
            CursorInvalid: it is not one of this list's, or of a file that `caller` cannot see.
        """
        after = key_of("files", cursor, str)
        with self._database.read(caller) as session:
            place = job_queries.place_of(session, FileRow, after)
            rows = job_queries.files(session, purpose, place, limit + 1)
            return paged("files", rows, limit, lambda row: row.id, partial(value_of, File))

    def remove(self, file_id: str, *, actor: str = "local", caller: Caller = LOCAL) -> File:
        """Take a file out of use, for good, and return what it was; its bytes may then go.

        Raises:
            UnknownFile: it was removed, or is not visible to the caller.
            FileInUse: a job that has not ended needs it.
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
