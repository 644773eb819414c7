"""Who changed what of a name: its part of the audit log, for all who see the name.

Not covered: the whole log, which admins read (`registry.access.audit`).
"""

from functools import partial

from registry.access import queries as access_queries
from registry.access.audit import Change
from registry.callers import LOCAL, Caller, namespace_of
from registry.paging import Page, key_of, paged
from registry.storage.database import Database
from registry.storage.models import AuditRow
from registry.storage.values import value_of
from registry.versions.resolve import version_table

# Of merges in every namespace, which not everybody sees.
_COUNT_OF_ALL = "made_of_it"


class History:
    """The changes of adapters and compositions. Threads may share one instance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def changes(
        self, name: str, *, cursor: str | None = None, limit: int = 100, caller: Caller = LOCAL
    ) -> Page[Change]:
        """Return the changes of an adapter or a composition, and of its versions, newest first.

        Raises:
            UnknownReference: the name does not exist for the caller.
            CursorInvalid: the cursor does not belong to this list.
        """
        before = key_of("changes", cursor, int)
        own = caller.namespace in (None, namespace_of(name))
        with self._database.read(caller) as session:
            version_table(session, name, name)
            rows = access_queries.changes_of(session, name, before, limit + 1)
            return paged("changes", rows, limit, lambda row: row.id, partial(_change, own=own))


def _change(row: AuditRow, *, own: bool) -> Change:
    detail = {key: value for key, value in row.detail.items() if own or key != _COUNT_OF_ALL}
    return value_of(Change, row, detail=detail)
