"""Evaluations: metric values that people and jobs attach to a version.

An evaluation belongs to `name@number`, whose content is immutable, so the evaluation stays valid. A
repeated measurement adds another evaluation; existing ones are not changed. weft does not measure
the values itself.
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
    """One metric value; `n` is the number of examples, or None if it is unknown."""

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
    """The evaluations of a registry. Threads may share one instance."""

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
        """Attach a metric value to a version of an adapter or a composition.

        Args:
            name: the name of the adapter or composition.
            number: the number of the version, retired or not.
            dataset: the dataset of the measurement.
            metric: the name of the metric.
            value: the finite value of the metric.
            n: the number of examples.
            measured_at: the time of the measurement; the default is now.
            actor: the author to record.
            caller: the caller whose rights apply.

        Raises:
            EvaluationInvalid: an argument is out of range.
            UnknownReference: the version does not exist.
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
        number: int | None = None,
        *,
        cursor: str | None = None,
        limit: int = 100,
        caller: Caller = LOCAL,
    ) -> Page[Evaluation]:
        """Return the evaluations of a version, or of all versions of a name, newest first.

        Raises:
            UnknownReference: the name or the version does not exist.
            CursorInvalid: the cursor does not belong to this list.
        """
        before = key_of("evaluations", cursor, int)
        reference = name if number is None else f"{name}@{number}"
        with self._database.read(caller) as session:
            table = version_table(session, name, reference)
            if number is not None and queries.version(session, table, name, number) is None:
                raise unknown(session, reference)
            evaluations = access_queries.evaluations(session, name, number, before, limit + 1)
            return paged("evaluations", evaluations, limit, lambda row: row.id, _evaluation)


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
        raise EvaluationInvalid("measured_at", measured_at.isoformat(), "a time with its zone")


def _evaluation(row: EvaluationRow) -> Evaluation:
    return value_of(Evaluation, row, reference=f"{row.name}@{row.number}")
