"""The import log: the outcome of each imported source, so that a repeated import skips it.

An outcome is stored for one source (`hf:owner/name@<commit>#sub`), one name and the conditions of
the import: the admission rules of this version of weft, the operator's policy, the requested base
and the registered bases. A stored refusal is ignored after one of the conditions changes. Network
failures are not stored.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from registry.admission.admit import AdmissionPolicy
from registry.admission.findings import CODES
from registry.callers import LOCAL, Caller
from registry.errors import CursorInvalid
from registry.paging import Page, key_of, paged
from registry.storage.columns import now
from registry.storage.database import Database
from registry.storage.models import AdapterVersionRow, ImportRow
from registry.types import ShownStatus
from registry.versions import list_queries, queries
from registry.versions.rows import shown_status

# Increase this number with every change of the admission rules; it invalidates stored refusals.
ADMISSION_REVISION = 2


@dataclass(frozen=True, slots=True)
class Remembered:
    """The outcome of an earlier import: a version, or the problems that refused it."""

    number: int | None
    digest: str | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A version as it was imported or published, with what admission found."""

    reference: str  # for example "legal@2"
    name: str
    source: str | None
    digest: str
    status: ShownStatus
    findings: tuple[Mapping[str, Any], ...]  # as in `AdmissionReport.to_json`
    at: datetime
    by: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An import that was refused and is remembered, with the problems."""

    name: str
    source: str
    problems: tuple[str, ...]
    at: datetime
    by: str


class ImportLog:
    """The outcomes of imports. Threads may share one instance."""

    def __init__(self, database: Database, policy: AdmissionPolicy) -> None:
        self._database = database
        self._policy = policy

    def conditions(self, base: str | None) -> str:
        """Return the SHA-256 of the conditions that affect the outcome of an import."""
        with self._database.read() as session:
            keys = sorted(
                f"{row.name}={alias.key}" for row in queries.bases(session) for alias in row.aliases
            )
        policy = {name: _plain(value) for name, value in asdict(self._policy).items()}
        facts = [ADMISSION_REVISION, sorted(CODES), policy, base, keys]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def recall(self, source: str, name: str, conditions: str) -> Remembered | None:
        """Return the stored outcome of a source, or None if the source must be imported.

        The outcome of an admitted version is valid under all conditions until it is retired.
        """
        with self._database.read() as session:
            row = queries.import_of(session, source, name)
            if row is None:
                return None
            if row.digest is None:
                valid = row.conditions == conditions
                return Remembered(None, None, tuple(row.problems)) if valid else None
            for version in queries.with_digest(session, row.digest):
                if version.name == name and version.retired_at is None:
                    return Remembered(version.number, row.digest, ())
            return None

    def admitted(
        self, *, cursor: str | None = None, limit: int = 100, caller: Caller = LOCAL
    ) -> Page[Admitted]:
        """Return the versions of adapters that the caller sees, newest first.

        Raises:
            CursorInvalid: the cursor does not belong to this list.
        """
        before = key_of("admitted", cursor, int)
        with self._database.read(caller) as session:
            rows = list_queries.admitted_versions(session, before, limit + 1)
            return paged("admitted", rows, limit, lambda row: row[0].id, _admitted)

    def refused(
        self, *, cursor: str | None = None, limit: int = 100, caller: Caller = LOCAL
    ) -> Page[Refused]:
        """Return the refusals that are remembered for the caller's names, newest first.

        Raises:
            CursorInvalid: the cursor does not belong to this list.
        """
        place = key_of("refused", cursor, str)
        after = None if place is None else _place(place)
        with self._database.read(caller) as session:
            rows = list_queries.refused_imports(session, after, limit + 1)
            key = lambda row: json.dumps([row.finished_at.isoformat(), row.source, row.name])  # noqa: E731
            return paged("refused", rows, limit, key, _refused)

    def remember(
        self,
        source: str,
        name: str,
        conditions: str,
        *,
        digest: str | None,
        problems: Iterable[str],
        actor: str,
    ) -> None:
        """Store an outcome; it replaces an earlier one of the same source and name."""
        with self._database.transaction() as session:
            row = ImportRow(source=source, name=name, conditions=conditions, digest=digest)
            row.problems, row.finished_at, row.finished_by = list(problems), now(), actor
            queries.save_import(session, row)


def _admitted(found: tuple[AdapterVersionRow, Any]) -> Admitted:
    row, findings = found
    return Admitted(
        f"{row.name}@{row.number}", row.name, row.source, row.digest, shown_status(row),
        tuple(findings or ()), row.created_at, row.created_by,
    )  # fmt: skip


def _refused(row: ImportRow) -> Refused:
    return Refused(row.name, row.source, tuple(row.problems), row.finished_at, row.finished_by)


def _place(text: str) -> tuple[datetime, str, str]:
    """Return the moment, the source and the name of a place in the list of refusals."""
    try:
        written, source, name = json.loads(text)
        moment = datetime.fromisoformat(written)
        well_formed = moment.tzinfo is not None and f"{source}{name}".isprintable()
    except (ValueError, TypeError, RecursionError) as error:
        raise CursorInvalid from error
    if not well_formed:
        raise CursorInvalid
    return moment, str(source), str(name)


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else value
