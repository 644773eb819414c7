"""The changes of a name: whose they are, and who is told of them."""

import pytest

from registry.callers import Caller
from registry.errors import CursorInvalid, UnknownReference
from registry.references import parse_reference
from registry.service import Registry
from tests.registry.access.test_visibility import MIX, MIX_RECIPE, compose
from tests.registry.conftest import Register

READER = Caller("guest", role="read", namespace="other")


def changes(registry: Registry, name: str, **how: object) -> list[tuple[str, str]]:
    """Return (action, subject) of the changes of a name, newest first."""
    page = registry.history.changes(name, **how)  # type: ignore[arg-type]  # limit, cursor, caller
    return [(change.action, change.subject) for change in page.items]


def test_a_name_has_its_own_changes(registry: Registry, register: Register) -> None:
    """Changes of a name and of its versions are told, newest first, and no one else's."""
    register("legal", seed=1)
    register("legal-too", seed=2)
    registry.versions.set_alias("legal", "prod", 1, "ada")
    registry.access.keys.create("legal", role="read", actor="ada")
    assert [("alias.moved", "legal"), ("adapter.registered", "legal@1")] == changes(
        registry, "legal"
    )


def test_a_composition_has_changes(registry: Registry, register: Register) -> None:
    """What was saved of a composition is told with its expression."""
    compose(registry, "mix", MIX_RECIPE, MIX, register("legal"))
    assert [("composition.added", "mix@1")] == changes(registry, "mix")


def test_who_sees_a_name_reads_its_changes(registry: Registry, register: Register) -> None:
    """A caller of another namespace reads the changes of a public name, and of no private one."""
    register("team/law", seed=1)
    with pytest.raises(UnknownReference):
        changes(registry, "team/law", caller=READER)
    registry.versions.set_visibility("team/law", "public", "ada")
    assert ("visibility.changed", "team/law") == changes(registry, "team/law", caller=READER)[0]
    for name in ("nothing", "acme/Tiny-Instruct"):
        with pytest.raises(UnknownReference):
            changes(registry, name)


def test_others_are_not_told_what_was_made_of_a_content(
    registry: Registry, register: Register
) -> None:
    """The count of merges in all namespaces is for those with rights to the name."""
    register("team/law", seed=1)
    registry.versions.set_visibility("team/law", "public", "ada")
    registry.versions.quarantine(parse_reference("team/law@1"), "odd", "ada")
    owner = Caller("ci", role="read", namespace="team")
    told = [
        registry.history.changes("team/law", caller=caller).items[0].detail
        for caller in (owner, READER)
    ]
    assert [{"reason": "odd", "made_of_it": 0}, {"reason": "odd"}] == told


def test_changes_come_in_pages(registry: Registry, register: Register) -> None:
    """A cursor leads to the next changes, and is refused by another list."""
    for seed in range(3):
        register("legal", seed=seed)
    first = registry.history.changes("legal", limit=2)
    rest = registry.history.changes("legal", limit=2, cursor=first.next_cursor)
    assert ["legal@3", "legal@2", "legal@1"] == [c.subject for c in (*first.items, *rest.items)]
    assert rest.next_cursor is None
    with pytest.raises(CursorInvalid):
        registry.access.audit.page(cursor=first.next_cursor)
