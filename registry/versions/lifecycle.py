"""Changes to versions and names: aliases, visibility, retirement and quarantine.

A quarantine applies to a content: to all versions that have it, to its digest, to all that was
made of it, and to later imports of it. A retirement with a reason is a quarantine that is never
released. The probe or a person decides on these, and the routes check the rights of the caller.
"""

from collections.abc import Sequence

from registry.access import audit, policies
from registry.callers import LOCAL, Caller, namespace_of
from registry.errors import AccessDenied, VersionInUse
from registry.references import Reference, check_alias, numbered
from registry.storage.columns import now
from registry.storage.database import Database, WriteSession
from registry.storage.models import AdapterVersionRow
from registry.storage.values import value_of
from registry.types import (
    Action,
    Alias,
    Reach,
    Resolution,
    ResolvedComposition,
    Status,
    Visibility,
)
from registry.versions import lineage_queries, queries
from registry.versions.names import locked_version, move_alias
from registry.versions.queries import VersionRow
from registry.versions.resolve import adapter_version, live, resolve, version_table

_MAX_REASON = 500


class Versions:
    """The versions of adapters and compositions. Threads may share one instance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def resolve(self, reference: Reference, *, caller: Caller = LOCAL) -> Resolution:
        """Resolve a reference; see `registry.versions.resolve.resolve`.

        Raises:
            UnknownReference: the reference does not exist or is not visible to `caller`; the error
                lists similar names.
            VersionRetired, VersionQuarantined: the version is not in use.
            CompositionDenied: a policy denies the composition, or the merge that it names.
        """
        with self._database.read(caller) as session:
            resolution = resolve(session, reference)
            if isinstance(resolution, ResolvedComposition):
                policies.check_recipe(session, resolution.recipe_digest, str(reference))
            else:
                policies.check_content(session, resolution.digest, str(reference))
            return resolution

    def set_alias(
        self, name: str, alias: str, version: int, actor: str, *, caller: Caller = LOCAL
    ) -> Alias:
        """Point an alias at a version of an adapter or a composition, and record the move.

        Raises:
            AliasInvalid: the alias violates the grammar of `registry.references`.
            UnknownReference: the version does not exist.
            VersionRetired, VersionQuarantined: the version is not in use.
        """
        check_alias(alias)
        with self._database.transaction(caller) as session:
            row = locked_version(session, name, version)
            return value_of(Alias, move_alias(session, row, alias, actor))

    def set_visibility(
        self, name: str, visibility: Visibility, actor: str, *, caller: Caller = LOCAL
    ) -> None:
        """Publish an adapter or a composition, or make it private to its namespace.

        Raises:
            UnknownReference: no adapter or composition has this name.
            AccessDenied: a name without a namespace cannot be private.
        """
        with self._database.transaction(caller) as session:
            queries.lock_name(session, name)
            version_table(session, name, name)
            if visibility == "private" and namespace_of(name) is None:
                raise AccessDenied(f"{name} has no namespace, so it cannot be private")
            queries.set_visibility(session, name, visibility)
            queries.advance_revision(session)  # the results of other callers' searches change
            audit.record(session, actor, "visibility.changed", name, visibility=visibility)

    def retire(self, reference: Reference, actor: str, *, caller: Caller = LOCAL) -> None:
        """Permanently retire a version; its row and history remain.

        The call has no effect on a version that is already retired.

        Raises:
            ReferenceInvalid: the reference does not have the form `name@number`.
            UnknownReference: the version does not exist.
            VersionInUse: an alias points at the version, or a composition in use contains it.
        """
        with self._database.transaction(caller) as session:
            row = locked_version(session, *numbered(reference))
            if row.retired_at is None:
                _refuse_in_use(session, row)
                row.retired_at, row.retired_by = now(), actor
                audit.record(session, actor, "version.retired", str(reference))
                queries.advance_revision(session)

    def quarantine(
        self, reference: Reference, reason: str, actor: str, *, caller: Caller = LOCAL
    ) -> Reach:
        """Quarantine a content: later requests for it are refused with `reason`.

        Merges of it, artifacts, and merges of these are refused, too, until it is released.

        Returns:
            All that the quarantine applies to, in all namespaces.

        Raises:
            UnknownReference: no adapter version that is visible to `caller` matches.
        """
        with self._database.transaction(caller) as session:
            digest = adapter_version(session, reference).digest
            return _set_status(session, digest, "quarantined", _short(reason), actor)

    def withdraw(
        self, reference: Reference, reason: str, actor: str, *, caller: Caller = LOCAL
    ) -> Reach:
        """Retire a content for a reason: as `quarantine`, and permanently.

        Aliases and compositions that use it do not prevent this.
        """
        with self._database.transaction(caller) as session:
            digest = adapter_version(session, reference).digest
            reach = _set_status(session, digest, "quarantined", _short(reason), actor)
            for row in queries.with_digest(session, digest):
                if row.retired_at is None:
                    row.retired_at, row.retired_by = now(), actor
                    subject = f"{row.name}@{row.number}"
                    audit.record(session, actor, "version.retired", subject, reason=_short(reason))
            return reach

    def release(self, reference: Reference, actor: str, *, caller: Caller = LOCAL) -> Reach:
        """End the quarantine of a content, and of all that was made of it; see `quarantine`.

        Raises:
            UnknownReference: as `quarantine`.
            VersionRetired: every version with this content was retired.
        """
        with self._database.transaction(caller) as session:
            digest = adapter_version(session, reference).digest
            versions = queries.with_digest(session, digest)
            if all(row.retired_at is not None for row in versions):
                live(versions[0])
            return _set_status(session, digest, "admitted", None, actor)


def _short(reason: str) -> str:
    return reason.strip()[:_MAX_REASON]


def _set_status(
    session: WriteSession, digest: str, status: Status, reason: str | None, actor: str
) -> Reach:
    action: Action = "version.quarantined" if status == "quarantined" else "version.released"
    reach = lineage_queries.reach(session, digest)
    made = len(reach.merges) + len(reach.compositions) + len(reach.artifacts)
    for row in queries.with_digest(session, digest):
        row.status, row.status_reason = status, reason
        subject, detail = f"{row.name}@{row.number}", {"reason": reason, "made_of_it": made}
        audit.record(session, actor, action, subject, **detail)
    queries.advance_revision(session)
    return reach


def _refuse_in_use(session: WriteSession, row: VersionRow) -> None:
    aliases = [a.alias for a in queries.aliases(session, row.name) if a.number == row.number]
    compositions: Sequence[tuple[str, int]] = ()
    if isinstance(row, AdapterVersionRow) and not queries.has_twin(session, row):
        compositions = queries.compositions_of(session, row.digest)
    visible = queries.visible_names(session, {name for name, _ in compositions})
    shown = [f"{name}@{number}" for name, number in compositions if name in visible]
    if aliases or compositions:
        hidden = len(compositions) > len(shown)
        raise VersionInUse(row.name, row.number, aliases, shown, hidden=hidden)
