"""Admission, storage and embedding of an adapter folder, which becomes a registered version.

Files are written before the rows that name them, so a crash leaves at most files without a row.
"""

from collections.abc import Collection
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

from registry.admission.admit import AdmissionPolicy, Admit
from registry.admission.licences import joined, licence_finding
from registry.errors import NameTaken
from registry.references import Reference, check_alias, check_name
from registry.search.embeddings import ATTEMPTS, Embeddings
from registry.search.errors import DescriptionBusy
from registry.search.finder import Finder
from registry.storage.blobs import BlobStore
from registry.storage.database import Database
from registry.storage.errors import FolderUnreadable
from registry.types import AdapterVersion, AdmissionReport, Registration
from registry.versions import adapters, known_bases, lineage_queries, queries, rows
from registry.versions.names import move_alias


class Adapters:
    """Checks and registers adapter folders. Threads may share one instance."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        policy: AdmissionPolicy,
        embeddings: Embeddings,
        finder: Finder,
        admit: Admit,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._policy = policy
        self._embeddings = embeddings
        self._finder = finder
        self._admit = admit

    def workspace(self) -> AbstractContextManager[Path]:
        """Yield an empty folder on the store's disk for a source's files, and remove it on exit.

        Raises:
            OSError: the store is not writable.
        """
        return self._blobs.workspace()

    def check(self, folder: Path, *, base: str | None = None) -> AdmissionReport:
        """Examine an adapter folder as `register` does, without storing anything.

        Raises:
            UnknownBase: `base` is not registered.
            CheckEnded: the check took too long or too much memory.
            FolderUnreadable: a file of the folder cannot be read.
        """
        return self._check(folder, base, self._policy)

    def _check(self, folder: Path, base: str | None, policy: AdmissionPolicy) -> AdmissionReport:
        with self._database.read() as session:
            requested = None if base is None else rows.base(known_bases.find(session, base))
            known = [] if requested else [rows.base(row) for row in queries.bases(session)]
        try:
            return self._admit(folder, requested, policy, known=known)
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
        made_of: Collection[str] = (),
        actor: str = "local",
    ) -> Registration:
        """Admit an adapter folder, store it in its normal form and make it a version of `name`.

        If a version of `name` has the same content, that version is returned. If `alias` is set,
        it is moved to the version. A crash or an error leaves no version or a complete one.

        Args:
            folder: the PEFT folder, which is read and not changed.
            name: the name of a new or existing adapter.
            base: the base, if the config names none or names a path; otherwise it must match.
            alias: the alias to move to the version.
            source: the origin of the folder, stored with the version.
            made_of: the digests of the contents that were merged into the folder, if it is a merge
                made here. The version has their licences, all of which the policy must admit;
                what else the policy requires was required of them.
            actor: the author to record for the version.

        Raises:
            NameInvalid, AliasInvalid: the text violates the grammar of `registry.references`.
            NameTaken: the name belongs to a composition or a base.
            UnknownBase: `base` is not registered.
            AdmissionRefused: the adapter cannot be served; the error has the report.
            CheckEnded: as `check`.
            VersionRetired: the version of `name` that has this content is retired.
            VersionQuarantined, ContentQuarantined: this content is quarantined.
            FolderUnreadable: a file of the folder cannot be read.
            StorageFailed: the store is full or unavailable.
            DescriptionBusy: others change the tags or examples of `name` all the time.
        """
        self._check_names(name, alias)
        if not made_of:
            content = adapters.store(self._blobs, self.check(folder, base=base))
        else:
            content = self._stored_merge(folder, base, made_of)
        version, created = self._added(name, content, alias, source, actor)
        self._blobs.confirm(content.digest)
        similar = self._finder.similar(Reference(name=name, version=version.number))
        return Registration(version, created, content.report, similar)

    def _stored_merge(
        self, folder: Path, base: str | None, made_of: Collection[str]
    ) -> adapters.StoredContent:
        """Admit and store a merge that was made here, with the licences of what it was made of."""
        with self._database.read() as session:
            licence = joined(lineage_queries.licences(session, made_of).values())
        policy = replace(self._policy, licences=frozenset(), required=frozenset())
        report = self._check(folder, base, policy)
        refused = licence_finding(licence, self._policy)
        if refused is not None:
            report = replace(report, findings=(*report.findings, refused))
        content = adapters.store(self._blobs, report)
        return replace(content, licence=licence, made_of=frozenset(made_of))

    def _added(
        self,
        name: str,
        content: adapters.StoredContent,
        alias: str | None,
        source: str | None,
        actor: str,
    ) -> tuple[AdapterVersion, bool]:
        """Add the version of stored content; return it and whether it is new."""
        for _ in range(ATTEMPTS):
            prepared = self._embeddings.prepare(name, content.digest, content.card.text)
            with suppress(DescriptionBusy), self._database.transaction() as session:
                row, created = adapters.add_version(session, name, content, source, actor)
                if created:
                    self._embeddings.add(session, row, prepared)
                if alias is not None:
                    move_alias(session, row, alias, actor)
                return rows.adapter_version(row), created
        raise DescriptionBusy(name)

    def _check_names(self, name: str, alias: str | None) -> None:
        """Refuse an invalid or taken name early; the transaction checks it again."""
        check_name(name)
        if alias is not None:
            check_alias(alias)
        with self._database.read() as session:
            kind = queries.kind_of(session, name)
        if kind not in (None, "adapter"):
            raise NameTaken(name, kind)
