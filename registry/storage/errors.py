"""The exceptions of the database and the blob store; see `registry.errors` for the messages."""

from registry.errors import RegistryError


class ValueRefused(RegistryError):
    """The value cannot be stored: {reason}. Remove NUL and unpaired surrogates."""

    def __init__(self, reason: str) -> None:
        self.reason = reason.partition("\n")[0]
        super().__init__()


class DatabaseUrlInvalid(RegistryError):
    """The database URL cannot be used: {reason}. Expected for example sqlite:////var/weft/weft.db"""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__()


class DatabaseOutdated(RegistryError):
    """The database is at revision {found}, and weft needs {head}: run `weft db upgrade`."""

    def __init__(self, found: str | None, head: str) -> None:
        self.found = found
        self.head = head
        super().__init__()


class DatabaseAhead(RegistryError):
    """The database is at revision {found}, but weft supports up to {head}: upgrade weft."""

    def __init__(self, found: str, head: str) -> None:
        self.found = found
        self.head = head
        super().__init__()


class DatabaseUnavailable(RegistryError):
    """The database cannot be used ({reason}). Check that it exists, is writable and has space."""

    retry_after_seconds = 5

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__()


class StatementTimeout(RegistryError):
    """The database needed too long for one statement and was stopped. Narrow the search or filter,
    or raise WEFT_STATEMENT_SECONDS.
    """


class DatabaseUnreachable(DatabaseUnavailable):
    """The database cannot be reached ({reason}). Check that it runs and accepts connections."""


class DatabaseSilent(DatabaseUnreachable):
    """The database does not answer ({reason}). Check that its server is not stopped and that its
    disk works.
    """


class ReferencesBroken(RegistryError):
    """Rows of {table} refer to missing rows of {missing}; nothing was changed."""

    def __init__(self, table: str, missing: str) -> None:
        self.table = table
        self.missing = missing
        super().__init__()


class BlobMissing(RegistryError):
    """The files of {digest} are not in this server's store. Share its folder, or import again."""

    retry_after_seconds = 30  # another gateway may have them

    def __init__(self, digest: str) -> None:
        self.digest = digest
        super().__init__()


class BlobCorrupt(RegistryError):
    """The files of {digest} have the digest {found}: delete them and import the adapter again."""

    def __init__(self, digest: str, found: str) -> None:
        self.digest = digest
        self.found = found
        super().__init__()


class StoreUrlInvalid(RegistryError):
    """WEFT_STORE cannot be used: {reason}. Expected for example s3://bucket/weft or
    file:///srv/weft
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__()


class StoreUnavailable(RegistryError):
    """The object store {url} cannot be used ({reason}): check server, bucket and credentials."""

    retry_after_seconds = 5

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__()


class StorageFailed(RegistryError):
    """The adapter could not be read or stored ({reason}), and nothing was registered."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__()


class FolderUnreadable(StorageFailed):
    """The adapter's folder cannot be read ({reason}), and nothing was registered."""


class Conflict(RegistryError):
    """A row violates the constraint {constraint} of the database."""

    def __init__(self, constraint: str) -> None:
        self.constraint = constraint
        super().__init__()
