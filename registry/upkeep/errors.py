"""The exceptions of dump and restore; see `registry.errors` for the messages.

RegistryError
├── DumpFailed            the file cannot be written
├── DumpInvalid           the file cannot be read
└── DatabaseNotEmpty      the target database has rows
"""

from collections.abc import Iterable

from registry.errors import RegistryError


class DumpFailed(RegistryError):
    """The dump {path!r} cannot be written: {reason}. The incomplete file was removed."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__()


class DumpInvalid(RegistryError):
    """Line {line} of {path!r} cannot be restored: {reason}. Nothing was changed."""

    def __init__(self, path: str, line: int, reason: str) -> None:
        self.path = path
        self.line = line
        self.reason = reason
        super().__init__()


class DatabaseNotEmpty(RegistryError):
    """The database has rows (in {listed}): restore into an empty database."""

    def __init__(self, tables: Iterable[str]) -> None:
        self.tables = tuple(tables)
        self.listed = ", ".join(self.tables)
        super().__init__()
