"""Evaluations: numbers attached to versions."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from registry.errors import CursorInvalid, EvaluationInvalid, UnknownReference
from registry.service import Registry
from tests.registry.access.test_visibility import MIX, MIX_RECIPE, compose
from tests.registry.conftest import Register

MOMENT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def record(registry: Registry, name: str = "legal", number: int = 1, **changes: Any) -> int:
    """Record an evaluation and return its id."""
    arguments: dict[str, Any] = {
        "dataset": "hearsay",
        "metric": "accuracy",
        "value": 0.5,
        "actor": "ada",
    } | changes
    return registry.evaluations.record(name, number, **arguments).id


def test_what_was_measured_comes_back(registry: Registry, register: Register) -> None:
    """An evaluation has all its fields, its author and its time."""
    register("legal")
    record(registry, value=0.87, n=94, measured_at=MOMENT)
    (made,) = registry.evaluations.page("legal", 1).items
    assert ("legal@1", "hearsay", "accuracy", 0.87, 94, MOMENT, "ada") == (
        made.reference, made.dataset, made.metric, made.value, made.n, made.measured_at,
        made.created_by,
    )  # fmt: skip


def test_the_moment_is_now_unless_said(registry: Registry, register: Register) -> None:
    """The default of `measured_at` is the current time."""
    register("legal")
    record(registry)
    (made,) = registry.evaluations.page("legal", 1).items
    assert made.created_at == made.measured_at


def test_a_composition_s_version_is_evaluated_too(registry: Registry, register: Register) -> None:
    """Adapters and compositions have evaluations, separate for each version."""
    compose(registry, "mix", MIX_RECIPE, MIX, register("legal"))
    record(registry, "mix")
    assert 1 == len(registry.evaluations.page("mix", 1).items)
    assert () == registry.evaluations.page("legal", 1).items


def test_pages_go_from_the_newest_and_do_not_shift(registry: Registry, register: Register) -> None:
    """Evaluations that are added meanwhile do not shift the following pages."""
    register("legal")
    ids = [record(registry, value=i) for i in range(5)]
    first = registry.evaluations.page("legal", 1, limit=2)
    record(registry, value=9)
    second = registry.evaluations.page("legal", 1, limit=2, cursor=first.next_cursor)
    third = registry.evaluations.page("legal", 1, limit=2, cursor=second.next_cursor)
    seen = [item.id for page in (first, second, third) for item in page.items]
    assert (ids[::-1], None) == (seen, third.next_cursor)
    with pytest.raises(CursorInvalid):
        registry.evaluations.page("legal", 1, cursor="x")


@pytest.mark.parametrize(("name", "number"), [("legal", 2), ("legl", 1), ("acme/Tiny-Instruct", 1)])
def test_there_must_be_such_a_version(
    registry: Registry, register: Register, name: str, number: int
) -> None:
    """An unknown adapter, composition or number is an unknown reference."""
    register("legal")
    with pytest.raises(UnknownReference):
        record(registry, name, number)
    with pytest.raises(UnknownReference):
        registry.evaluations.page(name, number)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"dataset": ""}, "dataset"), ({"dataset": "x" * 201}, "dataset"),
        ({"metric": "a\nb"}, "metric"), ({"metric": "a\0b"}, "metric"),
        ({"value": math.nan}, "value"), ({"value": math.inf}, "value"), ({"n": 0}, "n"),
        ({"n": 2**31}, "n"), ({"measured_at": MOMENT.replace(tzinfo=None)}, "measured_at"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_told(
    registry: Registry, register: Register, change: dict[str, Any], field: str
) -> None:
    """Texts must be printable and short, numbers finite, and times must have a zone."""
    register("legal")
    with pytest.raises(EvaluationInvalid, match=field):
        record(registry, **change)


def test_all_versions_of_a_name_have_one_list(registry: Registry, register: Register) -> None:
    """Without a number the list has the evaluations of every version of the name, by pages."""
    register("legal", seed=1)
    register("legal", seed=2)
    register("legal-too", seed=3)
    for number in (1, 2, 1):
        record(registry, number=number)
    record(registry, "legal-too")
    first = registry.evaluations.page("legal", limit=2)
    rest = registry.evaluations.page("legal", limit=2, cursor=first.next_cursor)
    references = [made.reference for made in (*first.items, *rest.items)]
    assert ["legal@1", "legal@2", "legal@1"] == references
    with pytest.raises(UnknownReference):
        registry.evaluations.page("nothing")
