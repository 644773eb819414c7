"""What dumps and their restoring raise; as in `registry.errors`, docstrings are messages.

RegistryError
├── DumpFailed            the file cannot be written
├── DumpInvalid           the file cannot be read
└── DatabaseNotEmpty      the database to restore into has rows
"""

from collections.abc import Iterable

from registry.errors import RegistryError


class DumpFailed(RegistryError):
    """The dump {path!r} cannot be written: {reason}. Nothing of it was kept."""

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
    """The database has rows already (in {listed}): restore into an empty one."""

    def __init__(self, tables: Iterable[str]) -> None:
        self.tables = tuple(tables)
        self.listed = ", ".join(self.tables)
        super().__init__()
