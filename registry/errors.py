"""The exceptions of the registry. The docstring of a class is the template of its message.

RegistryError
├── ReferenceInvalid, NameInvalid, AliasInvalid, DigestInvalid    malformed text
├── CursorInvalid, EvaluationInvalid                              malformed values
├── AccessDenied                                                  the key lacks the permission
├── UnknownReference, UnknownBase                                 well formed, but not registered
├── UnknownKey, KeyNameTaken, KeyScopeInvalid                     API keys
├── PolicyInvalid, UnknownPolicy, CompositionDenied               rules on compositions
├── NameTaken, BaseConflict, BaseConfigInvalid                    a conflict with stored rows
├── AdmissionRefused, CheckEnded                                  the folder cannot be served
├── VersionRetired, VersionInUse, VersionQuarantined              the version's state forbids it
│   └── ContentQuarantined, SourceQuarantined
└── the errors of storage, search, sources, jobs and upkeep are in errors.py of each folder
"""

import inspect
import shlex
from collections.abc import Iterable
from datetime import datetime

from registry.types import AdmissionReport, NameKind

_PROBLEMS_SHOWN = 5


class RegistryError(Exception):
    """The operation of the registry failed."""

    def __init__(self) -> None:
        super().__init__(inspect.cleandoc(type(self).__doc__ or "").format_map(vars(self)))


class ReferenceInvalid(RegistryError):
    """{text!r} is not a reference: expected {expected} at position {position}."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        self.text = text
        self.position = position
        self.expected = expected
        super().__init__()


class NameInvalid(RegistryError):
    """{name!r} is not a valid name: expected {expected}.{hint}"""

    def __init__(self, name: str, expected: str, suggestion: str | None = None) -> None:
        self.name = name
        self.expected = expected
        self.suggestion = suggestion
        self.hint = f" For example {suggestion!r}." if suggestion else ""
        super().__init__()


class AliasInvalid(RegistryError):
    """{alias!r} is not a valid alias: expected {expected}."""

    def __init__(self, alias: str, expected: str) -> None:
        self.alias = alias
        self.expected = expected
        super().__init__()


class DigestInvalid(RegistryError):
    """{digest!r} is not a digest: expected 64 lower-case hexadecimal digits."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        super().__init__()


class CursorInvalid(RegistryError):
    """The cursor was not returned by this list: repeat the request without a cursor."""


class EvaluationInvalid(RegistryError):
    """The evaluation's {field} cannot be {found}: expected {expected}."""

    def __init__(self, field: str, found: object, expected: str) -> None:
        self.field = field
        self.found = repr(found)[:120]
        self.expected = expected
        super().__init__()


class AccessDenied(RegistryError):
    """Access is denied: {reason}."""

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


class KeyScopeInvalid(RegistryError):
    """The key {name!r} cannot be made: {reason}."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__()


class PolicyInvalid(RegistryError):
    """{text!r} cannot be part of a policy: {expected}."""

    def __init__(self, text: str, expected: str) -> None:
        self.text = text
        self.expected = expected
        super().__init__()


class UnknownPolicy(RegistryError):
    """There is no policy {number}; `weft policies list` shows all."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()


class CompositionDenied(RegistryError):
    """Policy {policy} denies merging {listed}: {reason}. Leave one out, or ask an administrator."""

    def __init__(self, policy: int, reason: str, ingredients: Iterable[str]) -> None:
        self.policy = policy
        self.reason = reason
        self.ingredients = tuple(ingredients)  # as the caller wrote them
        self.listed = " and ".join(self.ingredients)
        super().__init__()


_NO_NEAR = " `weft adapters list` and GET /v1/models list what is."


class UnknownReference(RegistryError):
    """Nothing is registered as {text!r}.{hint}"""

    def __init__(self, text: str, near: Iterable[str] = ()) -> None:
        self.text = text
        self.near = tuple(near)
        self.hint = f" Near names: {', '.join(self.near)}." if self.near else _NO_NEAR
        super().__init__()


class UnknownBase(RegistryError):
    """No base is registered as {name!r} (registered: {listed}). Name one of these, or {advice}."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.advice = f"run `weft bases add {shlex.quote(name)} --model MODEL` (folder or Hub id)"
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
    """The base {name!r} cannot be added: {reason}. Use another name, or leave the alias out."""

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


class CheckEnded(RegistryError):
    """The adapter could not be checked: {reason}. Nothing was stored; `weft check` tries again."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__()


class VersionRetired(RegistryError):
    """{name}@{number} was retired on {day}{because}; name another version."""

    def __init__(
        self, name: str, number: int, retired_at: datetime, reason: str | None = None
    ) -> None:
        self.name = name
        self.number = number
        self.retired_at = retired_at
        self.day = retired_at.date().isoformat()
        self.because = "" if reason is None else f" ({reason})"
        super().__init__()


class VersionInUse(RegistryError):
    """{name}@{number} cannot be retired while in use: {listed}. Move or retire these first."""

    def __init__(
        self,
        name: str,
        number: int,
        aliases: Iterable[str],
        compositions: Iterable[str],
        *,
        hidden: bool,
    ) -> None:  # `hidden`: compositions use it, too, that the caller cannot see
        self.name, self.number = name, number
        self.aliases, self.compositions = tuple(aliases), tuple(compositions)
        users = [f"by the alias {alias}" for alias in self.aliases]
        users += [f"in the composition {version}" for version in self.compositions]
        users += ["in compositions that your key cannot see"] * hidden
        self.listed = ", ".join(users)
        super().__init__()


class VersionQuarantined(RegistryError):
    """{name}@{number} is quarantined: {reason}. Name another version."""

    def __init__(self, name: str, number: int, reason: str) -> None:
        self.name = name
        self.number = number
        self.reason = reason
        super().__init__()


class ContentQuarantined(VersionQuarantined):
    """This content is quarantined, so it cannot become a version of {name}. Ask the operator."""

    def __init__(self, name: str) -> None:
        # Number and reason belong to a version that the caller may not be allowed to see.
        super().__init__(name, 0, "its content is quarantined")


class SourceQuarantined(VersionQuarantined):
    """{text} was made of an adapter that is quarantined. Name another version."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text, 0, "an adapter that it was made of is quarantined")
