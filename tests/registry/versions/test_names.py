"""Names, aliases and retirement."""

import pytest

from registry.callers import Caller
from registry.errors import (
    AliasInvalid,
    ReferenceInvalid,
    UnknownReference,
    VersionInUse,
    VersionRetired,
)
from registry.references import parse_reference
from registry.service import Registry
from registry.storage.database import Database
from registry.storage.errors import Conflict
from registry.storage.models import AdapterRow
from registry.versions import names as naming
from tests.reading import read_adapter, read_composition
from tests.registry.conftest import BASE, Register


def _compose(registry: Registry, name: str, recipe: str) -> None:
    registry.compositions.add(
        name, expression="x", recipe_text=recipe, recipe_digest=recipe * 64, base=BASE,
        ingredients=[], actor="me",
    )  # fmt: skip


def test_an_alias_moves_and_remembers(registry: Registry, register: Register) -> None:
    """The history has each move with its author and time; the alias points at the last target."""
    register("legal", alias="prod")
    register("legal", seed=1)
    moved = registry.versions.set_alias("legal", "prod", 2, "ann")
    registry.versions.set_alias("legal", "prod", 1, "bob")
    adapter = read_adapter(registry, "legal")
    assert ("prod", 2, "ann") == (moved.alias, moved.number, moved.moved_by)
    assert [("prod", 1, "bob")] == [(a.alias, a.number, a.moved_by) for a in adapter.aliases]
    assert [(None, 1, "local"), (1, 2, "ann"), (2, 1, "bob")] == [
        (move.from_number, move.to_number, move.moved_by) for move in adapter.alias_moves
    ]
    times = [move.moved_at for move in adapter.alias_moves]
    assert sorted(times) == times


def test_moving_an_alias_to_where_it_is_changes_nothing(
    registry: Registry, register: Register
) -> None:
    """A move to the same version adds no entry and changes no time."""
    register("legal", alias="prod")
    before = read_adapter(registry, "legal")
    registry.versions.set_alias("legal", "prod", 1, "ann")
    assert before == read_adapter(registry, "legal")


def test_compositions_have_aliases_too(registry: Registry) -> None:
    """Aliases of compositions follow the same rules and have a history."""
    _compose(registry, "mix", "1")
    _compose(registry, "mix", "2")
    registry.versions.set_alias("mix", "prod", 1, "ann")
    registry.versions.set_alias("mix", "prod", 2, "ann")
    mix = read_composition(registry, "mix")
    assert [("prod", 2)] == [(a.alias, a.number) for a in mix.aliases]
    assert [(None, 1), (1, 2)] == [(m.from_number, m.to_number) for m in mix.alias_moves]


def test_an_alias_needs_a_version_in_use(registry: Registry, register: Register) -> None:
    """An unknown name or number, a retired version and a bad alias are refused."""
    register("legal")
    register("legal", seed=1)
    registry.versions.retire(parse_reference("legal@1"), "me")
    with pytest.raises(UnknownReference, match="legl@1"):
        registry.versions.set_alias("legl", "prod", 1, "me")
    with pytest.raises(UnknownReference, match="legal@3"):
        registry.versions.set_alias("legal", "prod", 3, "me")
    with pytest.raises(VersionRetired):
        registry.versions.set_alias("legal", "prod", 1, "me")
    with pytest.raises(AliasInvalid):
        registry.versions.set_alias("legal", "2", 2, "me")
    assert () == read_adapter(registry, "legal").aliases
    assert () == read_adapter(registry, "legal").alias_moves


def test_a_retired_version_stays_in_the_record(registry: Registry, register: Register) -> None:
    """A retired version keeps the time of its retirement, and a second call changes nothing."""
    register("legal")
    registry.versions.retire(parse_reference("legal@1"), "me")
    first = read_adapter(registry, "legal").versions
    registry.versions.retire(parse_reference("legal@1"), "ann")
    assert first == read_adapter(registry, "legal").versions
    assert first[0].retired_at is not None


def test_what_an_alias_points_at_is_not_retired(registry: Registry, register: Register) -> None:
    """The error lists the aliases that must move first."""
    register("legal", alias="prod")
    registry.versions.set_alias("legal", "canary", 1, "me")
    with pytest.raises(VersionInUse) as caught:
        registry.versions.retire(parse_reference("legal@1"), "me")
    assert ("canary", "prod") == caught.value.aliases
    assert "in use: by the alias canary, by the alias prod. Move" in str(caught.value)


def test_what_a_composition_is_made_of_is_not_retired(
    registry: Registry, register: Register
) -> None:
    """The error lists the compositions that are visible to the caller and mentions others. After
    they are retired, or the content has another live name, the version can be retired."""
    digest = register("team/legal")
    for letter, name in ("a", "mix"), ("b", "other/mix"), ("c", "team/mix"):
        registry.compositions.add(
            name, expression="cat(…)", recipe_text=letter, recipe_digest=letter * 64, base=BASE,
            ingredients=[(digest, 1.0)], actor="me",
        )  # fmt: skip
    version = parse_reference("team/legal@1")
    with pytest.raises(VersionInUse) as caught:
        registry.versions.retire(version, "me", caller=Caller("key", "publish", "team"))
    assert ("mix@1", "team/mix@1") == caught.value.compositions
    assert "in compositions that your key cannot see" in str(caught.value)
    assert "other/mix" not in str(caught.value)
    for name in ("mix", "team/mix"):
        registry.versions.retire(parse_reference(f"{name}@1"), "me")
    with pytest.raises(VersionInUse, match="in use: in the composition other/mix@1"):
        registry.versions.retire(version, "me")
    register("copy")
    registry.versions.retire(version, "me")
    with pytest.raises(VersionInUse, match="other/mix@1"):
        registry.versions.retire(parse_reference("copy@1"), "me")


@pytest.mark.parametrize("text", ["legal", "legal@prod", "0" * 64])
def test_only_a_numbered_version_is_retired(
    registry: Registry, register: Register, text: str
) -> None:
    """A reference that can resolve to another version later is refused."""
    register("legal", alias="prod")
    with pytest.raises(ReferenceInvalid, match="name@3"):
        registry.versions.retire(parse_reference(text), "me")


def test_retiring_what_is_not_there(registry: Registry, register: Register) -> None:
    """Unknown versions and names are unknown references."""
    register("legal")
    for text in ("legal@2", "law@1"):
        with pytest.raises(UnknownReference, match=text):
            registry.versions.retire(parse_reference(text), "me")


def test_numbers_are_never_used_twice(registry: Registry, register: Register) -> None:
    """The number of a retired version is not reused."""
    register("legal")
    register("legal", seed=1)
    registry.versions.retire(parse_reference("legal@2"), "me")
    register("legal", seed=2)
    assert [1, 2, 3] == [version.number for version in read_adapter(registry, "legal").versions]


def test_a_claim_that_fails_for_another_reason_is_seen(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the name's own constraint means that the name is taken."""

    def fail(*_: object) -> None:
        raise Conflict("ck_names_kind")

    monkeypatch.setattr("registry.versions.names.insert", fail)
    with (
        database.transaction() as session,
        pytest.raises(Conflict, match="ck_names_kind"),
    ):
        naming.claim(session, AdapterRow(name="legal"), "me")
