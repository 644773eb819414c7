"""The registry as one object: all its parts, connected to one database and one blob store."""

from registry.access.audit import Audit
from registry.access.keys import Keys
from registry.access.policies import Policies
from registry.access.secret import shared_secret
from registry.access.usage import Usage
from registry.adapters import Adapters
from registry.admission.admit import AdmissionPolicy, Admit, admit
from registry.jobs.files import Files
from registry.jobs.queue import Jobs
from registry.search.descriptions import Descriptions
from registry.search.embeddings import Embedder, Embeddings
from registry.search.finder import Finder
from registry.search.plane import Mapper
from registry.storage.advisory import AdvisoryLocks
from registry.storage.blobs import BlobStore
from registry.storage.changes import Changes
from registry.storage.database import Database
from registry.versions.canaries import Canaries
from registry.versions.catalogue import Catalogue
from registry.versions.compositions import Compositions
from registry.versions.evaluations import Evaluations
from registry.versions.history import History
from registry.versions.imports import ImportLog
from registry.versions.known_bases import Bases
from registry.versions.lifecycle import Versions


class Access:
    """API keys, their usage, policies and the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.keys = Keys(database)
        self.policies = Policies(database)
        self.usage = Usage(database)
        self.audit = Audit(database)

    def secret(self, name: str) -> bytes:
        """Return the secret of that name, which all gateways of this registry share."""
        return shared_secret(self._database, name)


class Search:
    """Search for adapters, and the data it uses: texts, tags, examples and embeddings."""

    def __init__(self, database: Database, blobs: BlobStore, embedder: Embedder) -> None:
        self.finder = Finder(database, embedder)
        self.mapper = Mapper(database)
        self.embeddings = Embeddings(database, blobs, embedder)
        self.descriptions = Descriptions(database, embedder)


class Registry:
    """All operations on adapters and compositions, grouped by subject. Threads may share it.

    Each method of a part runs one or two short transactions.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        policy: AdmissionPolicy | None = None,
        embedder: Embedder | None = None,
        admit: Admit = admit,
    ) -> None:
        policy = policy or AdmissionPolicy()
        self.access = Access(database)
        self.search = Search(database, blobs, embedder or Embedder())
        self.bases = Bases(database)
        self.adapters = Adapters(
            database, blobs, policy, self.search.embeddings, self.search.finder, admit
        )
        self.compositions = Compositions(database)
        self.canaries = Canaries(database)
        self.versions = Versions(database)
        self.catalogue = Catalogue(database)
        self.evaluations = Evaluations(database)
        self.history = History(database)
        self.imports = ImportLog(database, policy)
        self.jobs = Jobs(database)
        self.changes = Changes(database)
        self.files = Files(database)
        self.locks = AdvisoryLocks(database)
