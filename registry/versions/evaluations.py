"""Evaluations: numbers that people and jobs attach to a version.

An evaluation belongs to `name@number`, which never changes its content, so it stays true. Measuring
again adds another one; none is ever changed.
Not covered: measuring.
"""

import math
from dataclasses import dataclass
from datetime import datetime

from registry.access import audit
from registry.access import queries as access_queries
from registry.callers import LOCAL, Caller
from registry.errors import EvaluationInvalid
from registry.paging import Page, key_of, paged
from registry.storage.columns import now
from registry.storage.database import Database
from registry.storage.insert import insert
from registry.storage.models import EvaluationRow
from registry.storage.values import value_of
from registry.versions import names as naming
from registry.versions import queries
from registry.versions.resolve import unknown, version_table

_MAX_TEXT = 200
_MAX_N = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One number; `n` is how many examples it is of, when that was said."""

    id: int
    reference: str  # for example "legal@2"
    dataset: str
    metric: str
    value: float
    n: int | None
    measured_at: datetime
    created_at: datetime
    created_by: str


class Evaluations:
    """The evaluations in a registry. Safe to share by threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        name: str,
        number: int,
        *,
        dataset: str,
        metric: str,
        value: float,
        n: int | None = None,
        measured_at: datetime | None = None,
        actor: str = "local",
        caller: Caller = LOCAL,
    ) -> Evaluation:
        """Attach a number to a version of an adapter or a composition.

        Args:
            name: of the adapter or composition.
            number: of its version, retired or not.
            dataset: what it was measured on.
            metric: what was measured.
            value: the number; finite.
            n: of how many examples.
            measured_at: when; now by default.
            actor: recorded as its author.
            caller: for whom.

        Raises:
            EvaluationInvalid: a value is out of range.
            UnknownReference: there is no such version.
        """
        _check(dataset, metric, value, n, measured_at)
        with self._database.transaction(caller) as session:
            naming.locked_version(session, name, number)
            moment = now()
            row = EvaluationRow(
                name=name, number=number, dataset=dataset, metric=metric, value=value, n=n,
                measured_at=measured_at or moment, created_at=moment, created_by=actor,
            )  # fmt: skip
            insert(session, row)
            detail = {"dataset": dataset, "metric": metric, "value": value, "n": n}
            audit.record(session, actor, "evaluation.recorded", f"{name}@{number}", **detail)
            return _evaluation(row)

    def page(
        self,
        name: str,
        number: int,
        *,
        cursor: str | None = None,
        limit: int = 100,
        caller: Caller = LOCAL,
    ) -> Page[Evaluation]:
        """Return the evaluations of a version, newest first.

        Raises:
            UnknownReference: there is no such version.
            CursorInvalid: it is not one of this list's.
        """
        before = key_of("evaluations", cursor, int)
        with self._database.read(caller) as session:
            table = version_table(session, name, f"{name}@{number}")
            if queries.version(session, table, name, number) is None:
                raise unknown(session, f"{name}@{number}")
            found = access_queries.evaluations(session, name, number, before, limit + 1)
            return paged("evaluations", found, limit, lambda row: row.id, _evaluation)


def _check(
    dataset: str, metric: str, value: float, n: int | None, measured_at: datetime | None
) -> None:
    for field, text in (("dataset", dataset), ("metric", metric)):
        if not 0 < len(text) <= _MAX_TEXT or not text.isprintable():
            raise EvaluationInvalid(field, text, f"1 to {_MAX_TEXT} printable characters")
    if not math.isfinite(value):
        raise EvaluationInvalid("value", value, "a finite number")
    if n is not None and not 1 <= n <= _MAX_N:
        raise EvaluationInvalid("n", n, f"a whole number from 1 to {_MAX_N}")
    if measured_at is not None and measured_at.tzinfo is None:
        raise EvaluationInvalid("measured_at", measured_at.isoformat(), "a moment with its zone")


def _evaluation(row: EvaluationRow) -> Evaluation:
    return value_of(Evaluation, row, reference=f"{row.name}@{row.number}")
