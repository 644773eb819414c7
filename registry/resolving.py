"""What a reference means at this moment, and the names that come near one that means nothing."""

import difflib

from registry import queries, rows
from registry.database import ReadSession
from registry.errors import UnknownReference, VersionRetired
from registry.queries import V, VersionRow
from registry.references import Reference
from registry.types import Resolution, ResolvedArtifact

_NEAR_NAMES = 3
# Comparing is linear in the names in use; beyond this many a suggestion is not worth the time.
_NAMES_COMPARED = 5000


def resolve(session: ReadSession, reference: Reference) -> Resolution:
    """Return what `reference` means.

    A bare name means its highest version that is not retired; a digest a version or an artifact.

    Raises:
        UnknownReference: nothing has this name, version, alias or digest.
        VersionRetired: the version was retired.
    """
    if reference.name is None:
        return _by_digest(session, str(reference.digest))
    row = _by_name(session, reference, reference.name)
    if row is None:
        raise unknown(session, str(reference))
    return rows.resolved(live(row))


def _by_name(session: ReadSession, reference: Reference, name: str) -> VersionRow | None:
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


def _by_digest(session: ReadSession, digest: str) -> Resolution:
    version = queries.adapter_version_by_digest(session, digest)
    if version is not None:
        return rows.resolved(live(version))
    recipe = queries.recipe_of_artifact(session, digest)
    if recipe is None:
        raise UnknownReference(digest)
    return ResolvedArtifact(digest, recipe.text, recipe.digest, recipe.base)


def live(row: V) -> V:
    """Return `row`; raise VersionRetired when it is."""
    if row.retired_at is not None:
        raise VersionRetired(row.name, row.number, row.retired_at)
    return row


def version_table(session: ReadSession, name: str, text: str) -> type[VersionRow]:
    """Return the table that a name's versions are in; `text` is what the error quotes.

    Raises:
        UnknownReference: the name is neither an adapter's nor a composition's.
    """
    kind = queries.kind_of(session, name)
    if kind not in ("adapter", "composition"):
        raise unknown(session, text)
    return queries.table_of(kind)


def unknown(session: ReadSession, text: str) -> UnknownReference:
    """Return the error for a reference that means nothing, with up to three near ones."""
    names = queries.references_in_use(session, _NAMES_COMPARED)
    near = difflib.get_close_matches(text, names, n=_NEAR_NAMES)
    if not near:  # the name may be right and only the alias or the number wrong
        near = difflib.get_close_matches(text.partition("@")[0], names, n=_NEAR_NAMES)
    return UnknownReference(text, near)
