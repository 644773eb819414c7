"""The import log: the outcome of each imported source, so that a repeated import skips it.

An outcome is stored for one source (`hf:owner/name@<commit>#sub`), one name and the conditions of
the import: the admission rules of this version of weft, the operator's policy, the requested base
and the registered bases. A stored refusal is ignored after one of the conditions changes. Network
failures are not stored.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from registry.admission.admit import AdmissionPolicy
from registry.admission.findings import CODES
from registry.storage.columns import now
from registry.storage.database import Database
from registry.storage.models import ImportRow
from registry.versions import queries

# Increase this number with every change of the admission rules; it invalidates stored refusals.
ADMISSION_REVISION = 2


@dataclass(frozen=True, slots=True)
class Remembered:
    """The outcome of an earlier import: a version, or the problems that refused it."""

    number: int | None
    digest: str | None
    problems: tuple[str, ...]


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


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else value
