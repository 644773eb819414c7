"""The registry: register, compose, alias, resolve, retire, record.

Every public method is one or two short transactions. Files are written before the rows that name
them, so a crash leaves at most files that nothing refers to.
Not covered: what a recipe's text means, which callers may do what, and when files are deleted.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from registry.access.audit import Audit
from registry.access.keys import Keys
from registry.admission.admit import AdmissionPolicy, admit
from registry.callers import LOCAL, Caller
from registry.errors import NameTaken
from registry.jobs.files import Files
from registry.jobs.queue import Jobs
from registry.references import Reference, check_alias, check_name
from registry.search.descriptions import Descriptions
from registry.search.embeddings import Embedder, Embeddings
from registry.search.finder import Finder
from registry.storage.blobs import BlobStore
from registry.storage.database import Database, ReadSession
from registry.storage.errors import FolderUnreadable
from registry.storage.models import AdapterVersionRow, CompositionVersionRow
from registry.types import (
    Adapter,
    AdmissionReport,
    Alias,
    AliasMove,
    Base,
    Composition,
    CompositionVersion,
    Lineage,
    ListedModel,
    Registration,
    Resolution,
    Shapes,
    Visibility,
)
from registry.versions import adapters, known_bases, queries, rows
from registry.versions import compositions as recipes
from registry.versions import names as naming
from registry.versions import resolve as resolving
from registry.versions.catalogue import Catalogue, models_in
from registry.versions.evaluations import Evaluations
from registry.versions.imports import ImportLog
from registry.versions.quarantine import Statuses


class Registry:
    """All that may be done with adapters and compositions. Safe to share by threads."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        policy: AdmissionPolicy | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._policy = policy or AdmissionPolicy()
        self.catalogue = Catalogue(database)
        self.keys = Keys(database)
        self.audit = Audit(database)
        self.evaluations = Evaluations(database)
        self.files = Files(database)
        self.jobs = Jobs(database)
        self.statuses = Statuses(database)
        self.imports = ImportLog(database, self._policy)
        embedder = embedder or Embedder()
        self.embeddings = Embeddings(database, blobs, embedder)
        self.descriptions = Descriptions(database, embedder)
        self.finder = Finder(database, embedder)

    # Bases

    def add_base(
        self,
        name: str,
        *,
        shapes: Shapes,
        aliases: Iterable[str] = (),
        architecture: str | None = None,
        actor: str = "local",
    ) -> Base:
        """Make a base known; saying it again adds the aliases that are new.

        Args:
            name: as users write it, usually `owner/name`.
            shapes: (d_out, d_in) of every module's update: `registry.bases.module_shapes`.
            aliases: other spellings that `registry.bases.base_key` does not fold, or paths.
            architecture: the class that its config.json names.
            actor: who does it.

        Raises:
            NameInvalid: empty, too long, or with characters that cannot be printed.
            NameTaken: it is the name of an adapter or a composition.
            BaseConflict: known with other shapes, or a spelling of it means another base.
        """
        with self._database.transaction() as session:
            known_bases.add(session, name, shapes, aliases, architecture, actor)
        return self.base(name)

    def base(self, name: str) -> Base:
        """Return the base that `name` is a spelling of.

        Raises:
            UnknownBase: naming those that are known.
        """
        with self._database.read() as session:
            return rows.base(known_bases.found(session, name))

    def bases(self) -> tuple[Base, ...]:
        """Return all bases, by name."""
        with self._database.read() as session:
            return tuple(rows.base(row) for row in queries.bases(session))

    # Adapters

    def workspace(self) -> AbstractContextManager[Path]:
        """Give an empty folder on the store's disk for a source to put files in; then it goes.

        Raises:
            OSError: the store cannot be written.
        """
        return self._blobs.workspace()

    def check(self, folder: Path, *, base: str | None = None) -> AdmissionReport:
        """Examine an adapter folder as `register` does, and store nothing.

        Raises:
            UnknownBase: `base` is given and not known.
            FolderUnreadable: as it says.
        """
        with self._database.read() as session:
            asked = None if base is None else rows.base(known_bases.found(session, base))
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
            actor: who does it.

        Raises:
            NameInvalid, AliasInvalid: by the grammar of `registry.references`.
            NameTaken: the name is a composition's or a base's.
            UnknownBase: `base` is not known.
            AdmissionRefused: with the report.
            VersionRetired: the name had this content, and it was retired.
            VersionQuarantined, ContentQuarantined: this content is quarantined.
            FolderUnreadable: as it says.
            StorageFailed: the store is full or gone.
        """
        self._check_names(name, alias)
        report = self.check(folder, base=base)
        content = adapters.store(self._blobs, report)
        prepared = self.embeddings.prepare(name, content.digest, content.card.text)
        with self._database.transaction() as session:
            row, created = adapters.add_version(session, name, content, source, actor)
            if created:
                self.embeddings.add(session, row, prepared)
            if alias is not None:
                naming.move_alias(session, row, alias, actor)
            version = rows.adapter_version(row)
        similar = self.finder.similar(Reference(name=name, version=version.number))
        return Registration(version, created, report, similar)

    def _check_names(self, name: str, alias: str | None) -> None:
        """Refuse a hopeless name before any work; the transaction decides for certain."""
        check_name(name)
        if alias is not None:
            check_alias(alias)
        with self._database.read() as session:
            kind = queries.kind_of(session, name)
        if kind not in (None, "adapter"):
            raise NameTaken(name, kind)

    def adapter(self, name: str) -> Adapter:
        """Return an adapter with its versions, aliases and their history.

        Raises:
            UnknownReference: no adapter has this name.
        """
        with self._database.read() as session:
            found = queries.versions(session, AdapterVersionRow, name)
            if not found:
                raise resolving.unknown(session, name)
            versions = tuple(rows.adapter_version(row) for row in found)
            return Adapter(name, versions, *_aliases_and_moves(session, name))

    # What adapters and compositions have in common

    def set_alias(
        self, name: str, alias: str, version: int, actor: str, *, caller: Caller = LOCAL
    ) -> Alias:
        """Point an alias at a version of an adapter or a composition, and record the move.

        Raises:
            AliasInvalid: by the grammar of `registry.references`.
            UnknownReference: there is no such version.
            VersionRetired, VersionQuarantined: as they say.
        """
        check_alias(alias)
        with self._database.transaction(caller) as session:
            row = naming.locked_version(session, name, version)
            return rows.alias(naming.move_alias(session, row, alias, actor))

    def set_visibility(
        self, name: str, visibility: Visibility, actor: str, *, caller: Caller = LOCAL
    ) -> None:
        """Publish what is in a namespace to everybody, or make it private to it again.

        Raises:
            UnknownReference: nothing has this name.
            AccessDenied: a name without a namespace cannot be private.
        """
        with self._database.transaction(caller) as session:
            naming.set_visibility(session, name, visibility, actor)

    def retire(self, reference: Reference, actor: str, *, caller: Caller = LOCAL) -> None:
        """Take a version out of use, for good; its files and its history stay.

        Raises:
            ReferenceInvalid: anything but `name@number`.
            UnknownReference: there is no such version.
            VersionInUse: an alias points at it, or a composition in use is made of it.
        """
        with self._database.transaction(caller) as session:
            naming.retire(session, reference, actor)

    def resolve(self, reference: Reference, *, caller: Caller = LOCAL) -> Resolution:
        """Return what a reference means now: see `registry.versions.resolve.resolve`.

        Raises:
            UnknownReference: with the nearest names; also for what `caller` may not know of.
            VersionRetired, VersionQuarantined: the version is out of use.
        """
        with self._database.read(caller) as session:
            return resolving.resolve(session, reference)

    def model_ids(self, *, caller: Caller = LOCAL) -> tuple[ListedModel, ...]:
        """Return all that `caller` can ask for by name, and by name and alias, sorted."""
        with self._database.read(caller) as session:
            return models_in(session)

    # Compositions, recipes, artifacts

    def add_composition(
        self,
        name: str,
        *,
        expression: str,
        recipe_text: str,
        recipe_digest: str,
        base: str,
        ingredients: Sequence[tuple[str, float]],
        actor: str,
    ) -> CompositionVersion:
        """Save a recipe (see `save_recipe`) and make it the newest version of a composition.

        A recipe that the name has already stays the version it is.

        Raises:
            NameInvalid, NameTaken: as `register`.
            DigestInvalid, UnknownBase, UnknownReference, ValueError: as `save_recipe`.
            VersionRetired: the name had this recipe, and it was retired.
        """
        check_name(name)
        with self._database.transaction() as session:
            recipes.save(session, recipe_text, recipe_digest, base, ingredients)
            row = recipes.add_version(session, name, expression, recipe_digest, actor)
            return rows.composition_version(row)

    def composition(self, name: str) -> Composition:
        """Return a composition with its versions, aliases and their history.

        Raises:
            UnknownReference: no composition has this name.
        """
        with self._database.read() as session:
            found = queries.versions(session, CompositionVersionRow, name)
            if not found:
                raise resolving.unknown(session, name)
            versions = tuple(rows.composition_version(row) for row in found)
            return Composition(name, versions, *_aliases_and_moves(session, name))

    def save_recipe(
        self, text: str, digest: str, base: str, ingredients: Sequence[tuple[str, float]]
    ) -> None:
        """Write a recipe down, once; ingredients are (digest, raw weight) in the recipe's order.

        Raises:
            DigestInvalid: a digest has not the form of one.
            UnknownBase: no base has exactly this name.
            UnknownReference: an ingredient is neither a version nor an artifact.
            ValueError: a weight is not finite.
        """
        with self._database.transaction() as session:
            recipes.save(session, text, digest, base, ingredients)

    def artifact_of(self, recipe_digest: str) -> str | None:
        """Return the artifact that a recipe was first built into, or None; it may be gone."""
        with self._database.read() as session:
            recipe = queries.recipe(session, recipe_digest)
            return None if recipe is None else recipe.artifact

    def record_artifact(
        self,
        recipe_digest: str,
        artifact_digest: str,
        *,
        bytes: int,  # noqa: A002 - the name it has everywhere
        seconds: float,
        report: Mapping[str, Any],
        replacing: str | None = None,
    ) -> str:
        """Write down what a saved recipe was built into; the first writer wins.

        With `replacing`, this artifact takes over from that one (whose files are gone for good)
        unless somebody else already has.

        Returns:
            The recipe's artifact: `artifact_digest`, or that of whoever was first.

        Raises:
            DigestInvalid: the artifact's digest has not the form of one.
            UnknownReference: the recipe was never saved.
        """
        with self._database.transaction() as session:
            return recipes.record_artifact(
                session, recipe_digest, artifact_digest, bytes, seconds, report, replacing
            )

    def lineage(
        self, digest: str, *, cursor: str | None = None, limit: int = 100, caller: Caller = LOCAL
    ) -> Lineage:
        """Return what a version or an artifact was made of, and what was made of it, by pages.

        A recipe of which `caller` may not know every ingredient is left out.

        Raises:
            CursorInvalid: it is not one of this list's.
            DigestInvalid: it has not the form of a digest.
            UnknownReference: it is neither a version's nor an artifact's.
        """
        with self._database.read(caller) as session:
            return recipes.lineage(session, digest, cursor, limit)


def _aliases_and_moves(
    session: ReadSession, name: str
) -> tuple[tuple[Alias, ...], tuple[AliasMove, ...]]:
    aliases = tuple(rows.alias(row) for row in queries.aliases(session, name))
    return aliases, tuple(rows.alias_move(row) for row in queries.alias_moves(session, name))
