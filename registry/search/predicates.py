"""Filter conditions and "in use" as SQL predicates on `adapter_versions`.

Not covered: the filter's text (`registry.search.filters`) and the statements that use predicates
(`registry.versions.queries`).
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, not_, or_
from sqlalchemy.orm import aliased

from registry.access.visibility import version_visible
from registry.callers import Caller
from registry.search.filters import Condition, Value
from registry.storage.models import (
    AdapterTagRow,
    AdapterVersionRow,
    ModuleEndingRow,
    VersionModulesRow,
)
from registry.versions.lineage_queries import tainted_versions

V = AdapterVersionRow
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


_ORDERED: Mapping[str, Any] = {
    "created": V.created_at, "lora_dropout": V.lora_dropout, "rank": V.rank,
}  # fmt: skip


def predicates(conditions: Iterable[Condition], caller: Caller) -> list[ColumnElement[bool]]:
    """Return the predicates for the versions that satisfy the conditions and that the caller sees.

    Conditions must use the registered names of bases. Without a condition on the status, only the
    newest version in use of each adapter matches.
    """
    conditions = list(conditions)
    result = [version_visible(caller, V.name, V.digest), *map(_predicate, conditions)]
    if not any(condition.field == "status" for condition in conditions):
        result.append(newest_in_use())
    return result


def newest_in_use() -> ColumnElement[bool]:
    """Return the predicate of each adapter's newest version in use, which a bare name means."""
    newer = aliased(V)
    # With `*`, the default, SQLite reads the whole row; an index covers the id.
    later = exists(newer.id).where(newer.name == V.name, newer.number > V.number, _in_use(newer))
    return and_(_in_use(V), not_(later))


def _in_use(version: Any) -> ColumnElement[bool]:
    usable = version.id.not_in(tainted_versions())
    return and_(version.retired_at.is_(None), version.status == "admitted", usable)


def _predicate(condition: Condition) -> ColumnElement[bool]:
    compare = _COMPARE.get(condition.operator)
    if compare is not None:
        column = _ORDERED[condition.field]
        # With several values one must hold, as for every operator.
        return or_(*(compare(column, value) for value in condition.values))
    equal = or_(*(_EQUAL[condition.field](value) for value in condition.values))
    return not_(equal) if condition.operator == "!=" else equal


def _name(value: Value) -> ColumnElement[bool]:
    if str(value).endswith("/"):
        return V.name.startswith(str(value), autoescape=True)
    return V.name == value


def _module(value: Value) -> ColumnElement[bool]:
    """Match modules by name or by the end of the name."""
    link, row = VersionModulesRow, ModuleEndingRow
    return exists(link.version_id).where(
        link.version_id == V.id, row.module_set == link.module_set, row.ending == value
    )


def _tag(value: Value) -> ColumnElement[bool]:
    return exists().where(AdapterTagRow.name == V.name, AdapterTagRow.tag == value)


def _peft_version(value: Value) -> ColumnElement[bool]:
    """Match a release, or all releases with this prefix: 0.18 matches 0.18.0 and 0.18.1."""
    stated = func.coalesce(func.lower(V.peft_version), "")
    return or_(stated == value, stated.startswith(f"{value}.", autoescape=True))


def _status(value: Value) -> ColumnElement[bool]:
    if value == "retired":
        return V.retired_at.is_not(None)
    return _in_use(V) if value == "admitted" else and_(V.retired_at.is_(None), V.status == value)


_EQUAL: Mapping[str, Callable[[Value], ColumnElement[bool]]] = {
    "base": lambda value: func.lower(V.base) == value,
    "created": lambda value: V.created_at == value,
    "licence": lambda value: func.coalesce(func.lower(V.licence), "") == value,
    "lora_dropout": lambda value: func.coalesce(V.lora_dropout, -1.0) == value,
    "module": _module,
    "name": _name,
    "owner": lambda value: func.lower(V.created_by) == value,
    "peft_version": _peft_version,
    "rank": lambda value: V.rank == value,
    "status": _status,
    "tag": _tag,
}
