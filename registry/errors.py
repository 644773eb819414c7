"""What the registry raises. A class's docstring is its message, filled in from its attributes.

RegistryError
├── ReferenceInvalid, NameInvalid, AliasInvalid, DigestInvalid    the text cannot mean anything
├── CursorInvalid, EvaluationInvalid, FilterInvalid, TagInvalid, ValueRefused     nor can these
├── AccessDenied                                                  not with this key
├── UnknownReference, UnknownBase, NoEmbedding                    well formed, but nothing has it
├── UnknownKey, KeyNameTaken                                      of API keys
├── NameTaken, BaseConflict, BaseConfigInvalid                    it cannot be stored like this
├── AdmissionRefused, NothingToImport                             the folder is not good enough
├── VersionRetired, VersionInUse, VersionQuarantined              not in this version's state
│   └── ContentQuarantined
├── HubAddressInvalid, HubNotFound, HubDenied, HubFailed          the Hugging Face Hub says no
├── UploadInvalid, UploadTooLarge                                 what was sent is no adapter
├── DatabaseUrlInvalid, DatabaseOutdated, DatabaseAhead, DatabaseUnavailable, ReferencesBroken
├── `registry.upkeep.errors`, `registry.jobs.errors`                 dumps; files and jobs
├── BlobMissing, BlobCorrupt, StorageFailed ── FolderUnreadable   the files
└── Conflict                                                      a constraint of the database
"""

import inspect
from collections.abc import Iterable
from datetime import datetime

from registry.types import AdmissionReport, EmbeddingKind, NameKind

_PROBLEMS_SHOWN = 5


class RegistryError(Exception):
    """The registry could not do what was asked."""

    def __init__(self) -> None:
        super().__init__(inspect.cleandoc(type(self).__doc__ or "").format_map(vars(self)))


class ReferenceInvalid(RegistryError):
    """{text!r} is no reference: expected {expected} at position {position}."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        self.text = text
        self.position = position
        self.expected = expected
        super().__init__()


class NameInvalid(RegistryError):
    """{name!r} cannot be a name: expected {expected}."""

    def __init__(self, name: str, expected: str) -> None:
        self.name = name
        self.expected = expected
        super().__init__()


class AliasInvalid(RegistryError):
    """{alias!r} cannot be an alias: expected {expected}."""

    def __init__(self, alias: str, expected: str) -> None:
        self.alias = alias
        self.expected = expected
        super().__init__()


class DigestInvalid(RegistryError):
    """{digest!r} is no digest: expected 64 lower-case hexadecimal digits."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        super().__init__()


class FilterInvalid(RegistryError):
    """The filter cannot be read: expected {expected} at position {position}
    {window}
    {indent}^
    """

    def __init__(self, text: str, position: int, expected: str) -> None:
        self.text = text
        self.position = position
        self.expected = expected
        # A window keeps a hostile kilobyte out of the message; the caret stays under its place.
        start = max(0, position - 60)
        part = text[start : position + 20]
        self.window = "".join(c if c.isprintable() else "?" for c in part)
        self.indent = " " * (position - start)
        super().__init__()


class TagInvalid(RegistryError):
    """{tag!r} cannot be a tag: expected {expected}."""

    def __init__(self, tag: str, expected: str) -> None:
        self.tag = tag
        self.expected = expected
        super().__init__()


class ValueRefused(RegistryError):
    """No database keeps such a value: {reason}. Leave out NUL and halves of characters."""

    def __init__(self, reason: str) -> None:
        self.reason = reason.partition("\n")[0]
        super().__init__()


class NoEmbedding(RegistryError):
    """{reference} has no {kind} embedding to compare with: run `weft db embed` or probe it."""

    def __init__(self, reference: str, kind: EmbeddingKind) -> None:
        self.reference = reference
        self.kind = kind
        super().__init__()


class CursorInvalid(RegistryError):
    """The cursor is not one that this list gave; begin again without one."""


class EvaluationInvalid(RegistryError):
    """The evaluation's {field} cannot be {found}: expected {expected}."""

    def __init__(self, field: str, found: object, expected: str) -> None:
        self.field = field
        self.found = repr(found)[:120]
        self.expected = expected
        super().__init__()


class AccessDenied(RegistryError):
    """This may not be done: {reason}."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__()


class UnknownKey(RegistryError):
    """No key is called {name!r}."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__()


class KeyNameTaken(RegistryError):
    """There is or was a key called {name!r}; choose another name, so that records stay clear."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__()


class UnknownReference(RegistryError):
    """Nothing is registered as {text!r}.{hint}"""

    def __init__(self, text: str, near: Iterable[str] = ()) -> None:
        self.text = text
        self.near = tuple(near)
        self.hint = f" Near names: {', '.join(self.near)}." if self.near else ""
        super().__init__()


class UnknownBase(RegistryError):
    """No base is known as {name!r} (known: {listed}). Add it, or name one of these."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(known)
        self.listed = ", ".join(self.known) or "none"
        super().__init__()


class NameTaken(RegistryError):
    """The name {name!r} already belongs to one {kind}; choose another name."""

    def __init__(self, name: str, kind: NameKind) -> None:
        self.name = name
        self.kind = kind
        super().__init__()


class BaseConflict(RegistryError):
    """The base {name!r} cannot be added: {reason}. Use another name or leave the alias out."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__()


class BaseConfigInvalid(RegistryError):
    """The base's config.json has {key} = {found}: expected {expected}."""

    def __init__(self, key: str, found: object, expected: str) -> None:
        self.key = key
        self.found = repr(found)[:120]
        self.expected = expected
        super().__init__()


class AdmissionRefused(RegistryError):
    """The adapter was refused, and nothing was stored: {listed}"""

    def __init__(self, report: AdmissionReport) -> None:
        self.report = report
        shown = [str(problem) for problem in report.problems[:_PROBLEMS_SHOWN]]
        if len(report.problems) > _PROBLEMS_SHOWN:
            shown.append(f"and {len(report.problems) - _PROBLEMS_SHOWN} more problems")
        self.listed = "; ".join(shown)
        super().__init__()


class NothingToImport(RegistryError):
    """No adapter in {path!r}: expected a folder with adapter_config.json, or a folder of such."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__()


class VersionRetired(RegistryError):
    """{name}@{number} was retired on {day}; name another version."""

    def __init__(self, name: str, number: int, retired_at: datetime) -> None:
        self.name = name
        self.number = number
        self.retired_at = retired_at
        self.day = retired_at.date().isoformat()
        super().__init__()


class VersionInUse(RegistryError):
    """{name}@{number} cannot be retired while in use: {listed}. Move or retire these first."""

    def __init__(
        self,
        name: str,
        number: int,
        aliases: Iterable[str],
        compositions: Iterable[str],
        hidden: int,
    ) -> None:  # `hidden`: how many compositions use it that the caller may not know of
        self.name, self.number = name, number
        self.aliases, self.compositions, self.hidden = tuple(aliases), tuple(compositions), hidden
        told = [f"by the alias {alias}" for alias in self.aliases]
        told += [f"in the composition {version}" for version in self.compositions]
        told += [f"in compositions of other namespaces ({hidden})"] * bool(hidden)
        self.listed = ", ".join(told)
        super().__init__()


class VersionQuarantined(RegistryError):
    """{name}@{number} is quarantined: {reason}. Name another version."""

    def __init__(self, name: str, number: int, reason: str) -> None:
        self.name = name
        self.number = number
        self.reason = reason
        super().__init__()


class ContentQuarantined(VersionQuarantined):
    """This content is quarantined: {reason}. It cannot become a version of {name}."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, 0, reason)  # which version it was is not everybody's to know


class HubAddressInvalid(RegistryError):
    """{text!r} is no address on the Hub: {reason}. Expected hf:owner/name@revision#subfolder"""

    def __init__(self, text: str, reason: str) -> None:
        self.text = text[:300]
        self.reason = reason
        super().__init__()


class HubNotFound(RegistryError):
    """The Hub has no {address}: {reason}. Is it spelled right, or private (set HF_TOKEN)?"""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__()


class HubDenied(RegistryError):
    """The Hub keeps {address} from us: {reason}. Ask for access there, and set HF_TOKEN."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__()


class HubFailed(RegistryError):
    """{address} could not be fetched: {reason}. Nothing was stored; try again later."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__()


class UploadInvalid(RegistryError):
    """The upload cannot be used: {reason}. Expected a plain .tar with one adapter's files."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__()


class UploadTooLarge(RegistryError):
    """The upload is larger than the {limit} bytes that this registry takes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__()


class DatabaseUrlInvalid(RegistryError):
    """The database URL cannot be used: {reason}. Expected for example sqlite:////var/weft/weft.db"""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__()


class DatabaseOutdated(RegistryError):
    """The database is at revision {found}, this weft needs {head}: run `weft db upgrade`."""

    def __init__(self, found: str | None, head: str) -> None:
        self.found = found
        self.head = head
        super().__init__()


class DatabaseAhead(RegistryError):
    """The database is at revision {found}, newer than this weft's {head}: install a newer weft."""

    def __init__(self, found: str, head: str) -> None:
        self.found = found
        self.head = head
        super().__init__()


class DatabaseUnavailable(RegistryError):
    """The database cannot be used ({reason}). Is it there, writable and upgraded; has it space?"""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__()


class ReferencesBroken(RegistryError):
    """Rows of {table} refer to rows of {missing} that are not there; nothing was changed."""

    def __init__(self, table: str, missing: str) -> None:
        self.table = table
        self.missing = missing
        super().__init__()


class BlobMissing(RegistryError):
    """The files of {digest} are not in the store; import the adapter again."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        super().__init__()


class BlobCorrupt(RegistryError):
    """The files of {digest} have become {found}: delete them and import the adapter again."""

    def __init__(self, digest: str, found: str) -> None:
        self.digest = digest
        self.found = found
        super().__init__()


class StorageFailed(RegistryError):
    """The adapter could not be read or stored ({reason}), and nothing was registered."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__()


class FolderUnreadable(StorageFailed):
    """The adapter's folder cannot be read ({reason}), and nothing was registered."""


class Conflict(RegistryError):
    """The database's constraint {constraint} was broken."""

    def __init__(self, constraint: str) -> None:
        self.constraint = constraint
        super().__init__()
