"""Conversion of rows to frozen values that do not need a session."""

from dataclasses import fields
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar

from registry.storage.columns import Table


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


T = TypeVar("T", bound=_Dataclass)


def value_of(cls: type[T], row: Table, **more: Any) -> T:
    """Return a `cls` with the fields `more`; other fields are the columns of the same names.

    Raises:
        AttributeError: a field is neither in `more` nor a column of `row`.
        TypeError: `more` has a key that is not a field of `cls`.
    """
    columns = {name: getattr(row, name) for name in _field_names(cls) if name not in more}
    return cls(**columns, **more)


@cache
def _field_names(cls: type[_Dataclass]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls))
