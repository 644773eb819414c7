"""Results of canaries: whether artifacts answer an operator's prompts as expected.

A result belongs to an artifact and a set of prompts, and stays. The registry does not interpret
prompts (`server.artifacts.canary`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from registry.callers import LOCAL, Caller
from registry.storage.columns import now
from registry.storage.database import Database
from registry.storage.errors import Conflict
from registry.storage.insert import insert
from registry.storage.policy_models import CanaryRow
from registry.versions import canary_queries as queries


@dataclass(frozen=True, slots=True)
class CanaryFailure:
    """A prompt, by its number, whose answer was not the expected one."""

    number: int
    expected: str
    answer: str  # its beginning


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """The result of one set of prompts for one artifact."""

    prompts: str  # the digest of the set
    asked: int
    failures: tuple[CanaryFailure, ...]
    seconds: float
    created_at: datetime

    @property
    def passed(self) -> bool:
        """Whether every answer was the expected one."""
        return not self.failures


class Canaries:
    """The results of canaries. Threads may share one instance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_merge(self, digest: str) -> bool:
        """Return whether a digest is that of an artifact."""
        with self._database.read() as session:
            return queries.is_artifact(session, digest)

    def find(self, artifact: str, prompts: str) -> CanaryResult | None:
        """Return the result of a set of prompts for an artifact, or None."""
        with self._database.read() as session:
            row = queries.canary(session, artifact, prompts)
            return None if row is None else _result(row)

    def newest(self, artifact: str, *, caller: Caller = LOCAL) -> CanaryResult | None:
        """Return the newest result for an artifact that the caller can see, or None."""
        with self._database.read(caller) as session:
            row = queries.newest_canary(session, artifact)
            return None if row is None else _result(row)

    def record(
        self,
        artifact: str,
        prompts: str,
        *,
        asked: int,
        failures: Sequence[CanaryFailure],
        seconds: float,
    ) -> CanaryResult:
        """Store a result; the first one of an artifact and a set stays, and is returned."""
        row = CanaryRow(
            artifact=artifact, prompts=prompts, asked=asked, seconds=seconds, created_at=now(),
            failures={str(failure.number): asdict(failure) for failure in failures},
        )  # fmt: skip
        with self._database.transaction() as session:
            try:
                insert(session, row)
            except Conflict as conflict:
                if conflict.constraint != "pk_canaries":
                    raise
                stored = queries.canary(session, artifact, prompts)
                assert stored is not None, "rows of canaries are never removed"
                return _result(stored)
            return _result(row)


def _result(row: CanaryRow) -> CanaryResult:
    failures = sorted(row.failures.values(), key=lambda failure: failure["number"])
    return CanaryResult(
        row.prompts, row.asked, tuple(CanaryFailure(**failure) for failure in failures),
        row.seconds, row.created_at,
    )  # fmt: skip
