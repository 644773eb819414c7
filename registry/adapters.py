"""Check adapter folders and register them as versions: admission, storage and embeddings together.

Files are written before the rows that name them, so a crash leaves at most files without a row.
"""

from contextlib import AbstractContextManager
from pathlib import Path

from registry.admission.admit import AdmissionPolicy, admit
from registry.errors import NameTaken
from registry.references import Reference, check_alias, check_name
from registry.search.embeddings import Embeddings
from registry.search.finder import Finder
from registry.storage.blobs import BlobStore
from registry.storage.database import Database
from registry.storage.errors import FolderUnreadable
from registry.types import AdmissionReport, Registration
from registry.versions import adapters, known_bases, queries, rows
from registry.versions.names import move_alias


class Adapters:
    """Adapter folders on their way into the registry. Safe to share by threads."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        policy: AdmissionPolicy,
        embeddings: Embeddings,
        finder: Finder,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._policy = policy
        self._embeddings = embeddings
        self._finder = finder

    def workspace(self) -> AbstractContextManager[Path]:
        """Give an empty folder on the store's disk for a source's files; it is removed on exit.

        Raises:
            OSError: the store cannot be written.
        """
        return self._blobs.workspace()

    def check(self, folder: Path, *, base: str | None = None) -> AdmissionReport:
        """Examine an adapter folder as `register` does, and store nothing.

        Raises:
            UnknownBase: `base` is given and not known.
            FolderUnreadable: a file of the folder cannot be read.
        """
        with self._database.read() as session:
            asked = None if base is None else rows.base(known_bases.find(session, base))
            known = [rows.base(row) for row in queries.bases(session)] if asked is None else []
        try:
            return admit(folder, asked, self._policy, known=known)
        except OSError as error:
            raise FolderUnreadable(str(error)) from error

    def register(
        self,
        folder: Path,
        *,
        name: str,
        base: str | None = None,
        alias: str | None = None,
        source: str | None = None,
        actor: str = "local",
    ) -> Registration:
        """Admit an adapter folder, store it in its normal form and make it a version of `name`.

        Content that the name has already stays the version it is. With `alias`, that alias then
        points at the version. A crash or an error leaves either nothing or a whole version.

        Args:
            folder: a PEFT folder; it is read, never changed.
            name: of the adapter, new or existing.
            base: the base, when the config names none, or a path; else it must agree.
            alias: to move to the version.
            source: where the folder came from, for the record.
            actor: recorded as the version's author.

        Raises:
            NameInvalid, AliasInvalid: by the grammar of `registry.references`.
            NameTaken: the name is a composition's or a base's.
            UnknownBase: `base` is not known.
            AdmissionRefused: with the report.
            VersionRetired: the name had this content, and it was retired.
            VersionQuarantined, ContentQuarantined: this content is quarantined.
            FolderUnreadable: a file of the folder cannot be read.
            StorageFailed: the store is full or gone.
        """
        self._check_names(name, alias)
        report = self.check(folder, base=base)
        content = adapters.store(self._blobs, report)
        prepared = self._embeddings.prepare(name, content.digest, content.card.text)
        with self._database.transaction() as session:
            row, created = adapters.add_version(session, name, content, source, actor)
            if created:
                self._embeddings.add(session, row, prepared)
            if alias is not None:
                move_alias(session, row, alias, actor)
            version = rows.adapter_version(row)
        similar = self._finder.similar(Reference(name=name, version=version.number))
        return Registration(version, created, report, similar)

    def _check_names(self, name: str, alias: str | None) -> None:
        """Refuse a name that cannot be used before any work; the transaction decides again."""
        check_name(name)
        if alias is not None:
            check_alias(alias)
        with self._database.read() as session:
            kind = queries.kind_of(session, name)
        if kind not in (None, "adapter"):
            raise NameTaken(name, kind)
