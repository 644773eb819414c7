"""The outcome of each imported source, so that importing again does only what is missing.

An outcome is remembered for one source (`hf:owner/name@<commit>#sub`), one name and the conditions
under which it was found: the admission rules of this weft, the operator's policy, the base that was
asked for and the bases that are known. Other conditions are another question, so a refusal does not
outlive the policy that it was refused under. Failures of the network are never remembered.
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

# To be raised with every change of what admission refuses: remembered refusals then count no more.
ADMISSION_REVISION = 2


@dataclass(frozen=True, slots=True)
class Remembered:
    """The outcome of an earlier import: a version, or the problems that refused it."""

    number: int | None
    digest: str | None
    problems: tuple[str, ...]


class ImportLog:
    """The outcomes of imports. Safe to share by threads."""

    def __init__(self, database: Database, policy: AdmissionPolicy) -> None:
        self._database = database
        self._policy = policy

    def conditions(self, base: str | None) -> str:
        """Return a SHA-256 of everything besides the source that an outcome depends on."""
        with self._database.read() as session:
            keys = sorted(
                f"{row.name}={alias.key}" for row in queries.bases(session) for alias in row.aliases
            )
        policy = {name: _plain(value) for name, value in asdict(self._policy).items()}
        facts = [ADMISSION_REVISION, sorted(CODES), policy, base, keys]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def recall(self, source: str, name: str, conditions: str) -> Remembered | None:
        """Return the outcome of a source, or None when it has to be imported (again).

        An admitted version counts whatever the conditions, unless it was retired since.
        """
        with self._database.read() as session:
            row = queries.import_of(session, source, name)
            if row is None:
                return None
            if row.digest is None:
                same = row.conditions == conditions
                return Remembered(None, None, tuple(row.problems)) if same else None
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
        """Store an outcome, over an earlier one of this source and name."""
        with self._database.transaction() as session:
            row = ImportRow(source=source, name=name, conditions=conditions, digest=digest)
            row.problems, row.finished_at, row.finished_by = list(problems), now(), actor
            queries.save_import(session, row)


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else value
