"""Resolving references to versions or artifacts, and suggestions for unknown references.

Rows that are not visible to the session's caller are treated as if they did not exist.
"""

import threading
from collections.abc import Sequence

from rapidfuzz import fuzz, process

from merge.peft_format import is_digest
from registry.errors import (
    DigestInvalid,
    ReferenceInvalid,
    SourceQuarantined,
    UnknownReference,
    VersionQuarantined,
    VersionRetired,
)
from registry.references import MAX_LENGTH, Reference, is_digest_start
from registry.storage.database import ReadSession
from registry.storage.models import AdapterVersionRow, CompositionVersionRow
from registry.types import Resolution, ResolvedArtifact
from registry.versions import lineage_queries, queries, rows
from registry.versions.lineage_queries import Standing
from registry.versions.queries import V, VersionRow

_GOOD = Standing(visible=True, quarantined=None)
_NEAR_NAMES = 3
# The comparison is linear in the number of names, so only the first ones are compared.
_NAMES_COMPARED = 5000
_ALIKE = 60  # percent of the letters
_suggesting = threading.Lock()


def resolve(session: ReadSession, reference: Reference) -> Resolution:
    """Resolve a reference.

    A bare name of an adapter resolves to its highest version in use: not retired, not quarantined,
    and not made of a quarantined content. A full or abbreviated digest resolves to a version or an
    artifact. What the caller cannot see in the lineage of a version makes the version unknown.

    Raises:
        ReferenceInvalid: an abbreviated digest is ambiguous.
        UnknownReference: the name, version, alias or digest does not exist.
        VersionRetired: the version is retired.
        VersionQuarantined: the version, or a content that it was made of, is quarantined.
    """
    reference = _with_whole_digest(session, reference)
    if reference.name is None:
        return _by_digest(session, str(reference.digest))
    row = named(session, reference, reference.name)
    if row is None:
        raise unknown(session, str(reference))
    standing = _standing(session, row)
    bare = reference.version is None and reference.alias is None
    if bare and standing != _GOOD and isinstance(row, AdapterVersionRow):
        other = lineage_queries.newest_usable(session, reference.name)
        row, standing = (row, standing) if other is None else (other, _GOOD)
    if not standing.visible:
        raise unknown(session, str(reference))
    live(row)
    _refuse_quarantined(session, f"{row.name}@{row.number}", standing)
    return rows.resolved(row)


def usable(session: ReadSession, row: V) -> V:
    """Return `row` if it is in use, with all that it was made of.

    Raises:
        VersionRetired, VersionQuarantined: it is not.
    """
    live(row)
    _refuse_quarantined(session, f"{row.name}@{row.number}", _standing(session, row))
    return row


def _standing(session: ReadSession, row: VersionRow) -> Standing:
    if isinstance(row, CompositionVersionRow):
        return lineage_queries.standing_of_recipe(session, row.recipe_digest)
    return lineage_queries.standing_of_version(session, row)


def named(session: ReadSession, reference: Reference, name: str) -> VersionRow | None:
    """Return the version that a reference by name resolves to, in use or not, or None.

    Raises:
        UnknownReference: the name does not belong to an adapter or a composition.
    """
    table = version_table(session, name, str(reference))
    number = reference.version
    if reference.alias is not None:
        alias = queries.alias(session, name, reference.alias)
        if alias is None:
            return None
        number = alias.number
    if number is None:
        return queries.newest(session, table, name)
    return queries.version(session, table, name, number)


def adapter_version(session: ReadSession, reference: Reference) -> AdapterVersionRow:
    """Return the adapter version that a reference resolves to, in use or not.

    Raises:
        ReferenceInvalid: an abbreviated digest is ambiguous.
        UnknownReference: no adapter version that is visible to the caller matches.
    """
    row: VersionRow | None
    reference = _with_whole_digest(session, reference)
    if reference.name is None:
        row = queries.adapter_version_by_digest(session, str(reference.digest))
    else:
        row = named(session, reference, reference.name)
    if not isinstance(row, AdapterVersionRow):
        raise unknown(session, str(reference))
    return row


def _with_whole_digest(session: ReadSession, reference: Reference) -> Reference:
    """Replace an abbreviated digest with the full one, unless a visible name has the text."""
    text = str(reference)
    if not is_digest_start(text) or is_digest(text):
        return reference
    if reference.name is not None and queries.visible_kind_of(session, reference.name) is not None:
        return reference
    digest = _digest_starting(session, text)
    return Reference(digest=digest) if digest else reference


def whole_digest(session: ReadSession, text: str) -> str:
    """Return the digest of a version or an artifact that `text` is, or is the start of.

    Raises:
        DigestInvalid: `text` is neither a digest nor its first 12 or more digits.
        ReferenceInvalid: several digests begin with `text`.
        UnknownReference: no digest that is visible to the caller begins with `text`.
    """
    if not is_digest_start(text):
        raise DigestInvalid(text[:MAX_LENGTH])
    digest = _digest_starting(session, text)
    if digest is None:
        raise UnknownReference(text)
    return digest


def _digest_starting(session: ReadSession, text: str) -> str | None:
    digests = queries.digests_starting(session, text)
    if len(digests) > 1:
        expected = f"more digits, since {len(digests)} digests begin with these,"
        raise ReferenceInvalid(text, len(text), expected)
    return digests.pop() if digests else None


def _by_digest(session: ReadSession, digest: str) -> Resolution:
    version = queries.adapter_version_by_digest(session, digest)
    if version is not None:
        return rows.resolved(usable(session, version))
    recipe = queries.recipe_of_artifact(session, digest)
    if recipe is None:
        raise UnknownReference(digest)
    standing = lineage_queries.standing_of_artifact(session, digest)
    _refuse_quarantined(session, digest, standing)
    return ResolvedArtifact(digest, recipe.text, recipe.digest, recipe.base)


def live(row: V) -> V:
    """Return `row`, or raise VersionRetired or VersionQuarantined if it is not in use itself."""
    reason = None
    if isinstance(row, AdapterVersionRow) and row.status == "quarantined":
        reason = str(row.status_reason)
    if row.retired_at is not None:
        raise VersionRetired(row.name, row.number, row.retired_at, reason)
    if reason is not None:
        raise VersionQuarantined(row.name, row.number, reason)
    return row


def _refuse_quarantined(session: ReadSession, text: str, standing: Standing) -> None:
    """Raise VersionQuarantined if a content in the lineage of `text` is quarantined.

    The error has the name and the reason of that content only if the caller sees it.
    """
    if standing.quarantined is None:
        return
    row = queries.adapter_version_by_digest(session, standing.quarantined)
    if row is None:
        raise SourceQuarantined(text)
    raise VersionQuarantined(row.name, row.number, str(row.status_reason))


def version_table(session: ReadSession, name: str, text: str) -> type[VersionRow]:
    """Return the table that contains a name's versions; the error quotes `text`.

    Raises:
        UnknownReference: the name does not belong to an adapter or a composition.
    """
    kind = queries.visible_kind_of(session, name)
    if kind not in ("adapter", "composition"):
        raise unknown(session, text)
    return queries.table_of(kind)


def unknown(session: ReadSession, text: str) -> UnknownReference:
    """Return the error for an unknown reference, with up to three similar references.

    Threads look for similar ones one at a time: whoever would have to wait gets none, so that many
    unknown references at once delay no other request.
    """
    if not _suggesting.acquire(blocking=False):
        return UnknownReference(text)
    try:
        names = queries.references_in_use(session, _NAMES_COMPARED)
        near = _near(text, names)
        if not near and "@" in text:  # the name may be right, and the alias or the number wrong
            near = _near(text.partition("@")[0], names)
    finally:
        _suggesting.release()
    return UnknownReference(text, near)


def _near(text: str, names: Sequence[str]) -> list[str]:
    """Return the names most like `text`. Half a microsecond for each name, a tenth of difflib's."""
    near = process.extract(
        text[:MAX_LENGTH], names, scorer=fuzz.ratio, limit=_NEAR_NAMES, score_cutoff=_ALIKE
    )
    return [name for name, _, _ in near]
