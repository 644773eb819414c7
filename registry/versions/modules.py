"""The modules that versions update, stored so that a filter finds them by the end of their names.

Versions that update the same modules share one set, which is stored once.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from registry.storage.database import WriteSession
from registry.storage.errors import Conflict
from registry.storage.insert import insert
from registry.storage.models import MAX_ENDING, ModuleEndingRow, VersionModulesRow
from registry.versions import queries


def link(session: WriteSession, version_id: int, modules: Iterable[str]) -> None:
    """Store which modules a version updates; the version's row must be written before."""
    names = sorted({name.lower() for name in modules})
    module_set = hashlib.sha256("\n".join(names).encode()).hexdigest()
    rows = [ModuleEndingRow(module_set=module_set, ending=e) for e in sorted({*_endings(names)})]
    if rows and not queries.has_module_set(session, module_set):
        _store(session, rows)
    session.add(VersionModulesRow(version_id=version_id, module_set=module_set))
    session.flush()


def _store(session: WriteSession, rows: Sequence[ModuleEndingRow]) -> None:
    """Store the endings of a set, unless another process stores them at the same time."""
    with suppress(Conflict):
        insert(session, rows[0])  # waits for that process
        session.add_all(rows[1:])
        session.flush()


def _endings(names: Iterable[str]) -> Iterator[str]:
    """Yield `a.b.c`, `b.c` and `c` for the name `a.b.c`."""
    for name in names:
        parts = name.split(".")
        endings = (".".join(parts[start:]) for start in range(len(parts)))
        yield from (ending for ending in endings if len(ending) <= MAX_ENDING)
