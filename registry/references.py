"""The text of references: `name`, `name@3`, `name@prod`, or a digest.

    reference = digest | name [ "@" ( version | alias ) ]
    name      = segment { "/" segment }
    segment   = letter { letter | digit | "." | "_" | "-" }
    alias     = segment
    version   = a number from 1 to 999999999, without leading zeros
    digest    = 64 hexadecimal digits, or the first 12 or more of them
    letter    = "a" … "z"

References are lower-case ASCII. `registry.versions.resolve` resolves a reference to a version.
"""

import re
import unicodedata
from dataclasses import dataclass

from merge.peft_format import is_digest
from registry.errors import AliasInvalid, DigestInvalid, NameInvalid, ReferenceInvalid

MAX_LENGTH = 200
MAX_ALIAS_LENGTH = 60
_SEGMENT = "[a-z][a-z0-9._-]*"
_SEGMENT_START = "a lower-case letter"
_NAME = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_ALIAS = re.compile(_SEGMENT)
DIGEST_START = "[0-9a-f]{12,64}"
_DIGEST_START = re.compile(DIGEST_START)
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._-]+")
_EXPECTED = "lower-case letters, digits and . _ - after a letter"


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference: a digest, or a name with an optional version or alias.

    An abbreviated digest that starts with a letter is parsed as a name.
    """

    name: str | None = None
    version: int | None = None
    alias: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        """Return the text that `parse_reference` parses to this reference."""
        if self.name is None:
            return str(self.digest)
        which = self.alias if self.version is None else self.version
        return self.name if which is None else f"{self.name}@{which}"


def parse_reference(text: str) -> Reference:
    """Parse a reference.

    Raises:
        ReferenceInvalid: the text is malformed; the error has the position of the first wrong
            character.
    """
    if len(text) > MAX_LENGTH:
        raise ReferenceInvalid(text, MAX_LENGTH, f"at most {MAX_LENGTH} characters")
    if is_digest(text) or (text[:1].isdigit() and is_digest_start(text)):
        return Reference(digest=text)
    position = _match_name(text)
    if position == len(text):
        return Reference(name=text)
    if text[position] != "@":
        raise ReferenceInvalid(text, position, "a lower-case letter, a digit, one of . _ - / @")
    name, which = text[:position], text[position + 1 :]
    if _VERSION.fullmatch(which):
        return Reference(name=name, version=int(which))
    if _ALIAS.fullmatch(which) and len(which) <= MAX_ALIAS_LENGTH:
        return Reference(name=name, alias=which)
    raise ReferenceInvalid(text, position + 1, f"a version number or an alias ({_EXPECTED})")


def _match_name(text: str) -> int:
    """Return the end position of the name at the start of `text`."""
    match = _NAME.match(text)
    if match is None:
        raise ReferenceInvalid(text, 0, f"a name, which begins with {_SEGMENT_START}, or a digest")
    end = match.end()
    if text[end : end + 1] == "/":
        raise ReferenceInvalid(text, end + 1, f"{_SEGMENT_START} after the slash")
    return end


def is_digest_start(text: str) -> bool:
    """Return whether a text is a digest or its first 12 or more digits."""
    return _DIGEST_START.fullmatch(text) is not None


def numbered(reference: Reference) -> tuple[str, int]:
    """Return the name and the number of a reference of the form `name@number`.

    Raises:
        ReferenceInvalid: the reference has another form, which can later resolve to another
            version.
    """
    if reference.name is None or reference.version is None:
        expected = "a name with a version number, such as name@3"
        raise ReferenceInvalid(str(reference), len(str(reference)), expected)
    return reference.name, reference.version


def check_name(name: str) -> None:
    """Raise NameInvalid unless `name` is valid for an adapter or a composition."""
    if len(name) > MAX_LENGTH:
        raise NameInvalid(name[:MAX_LENGTH] + "…", f"at most {MAX_LENGTH} characters")
    if not _NAME.fullmatch(name):
        expected = f"{_EXPECTED}, with / between namespaces"
        raise NameInvalid(name, expected, suggest_name(name))
    if is_digest(name):
        raise NameInvalid(name, "a name that does not have the form of a digest")


def suggest_name(text: str) -> str | None:
    """Return a valid name similar to `text`, or None if no character of it is usable.

    For example, "Legal QA/2nd try" becomes "legal-qa/n-2nd-try". Accents are removed, and a part
    that does not begin with a letter gets the prefix "n-".
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    parts = (_NOT_IN_A_NAME.sub("-", part).strip("-") for part in plain.split("/"))
    name = "/".join(part if part[0].isalpha() else f"n-{part}" for part in parts if part)
    name = name[:MAX_LENGTH].rstrip("/")
    return f"n-{name}" if is_digest(name) else name or None


def check_alias(alias: str) -> None:
    """Raise AliasInvalid unless `alias` is a valid alias."""
    if not _ALIAS.fullmatch(alias) or len(alias) > MAX_ALIAS_LENGTH:
        expected = f"{_EXPECTED}, at most {MAX_ALIAS_LENGTH} of them"
        raise AliasInvalid(alias[:MAX_LENGTH], expected)


def check_digest(digest: str) -> None:
    """Raise DigestInvalid if `digest` is malformed."""
    if not is_digest(digest):
        raise DigestInvalid(digest[:MAX_LENGTH])
