"""API keys are shown once, stored as a hash, and revoked permanently."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

import registry.access.keys
from registry.access.keys import Keys
from registry.callers import Caller
from registry.errors import CursorInvalid, KeyNameTaken, NameInvalid, UnknownKey
from registry.storage.database import Database

TEAM = Caller("boss", "admin", "team")


@pytest.fixture
def keys(database: Database) -> Keys:
    """The keys of an empty registry."""
    return Keys(database)


def test_a_key_stands_for_its_caller(keys: Keys) -> None:
    """A key returns its name, role and namespace, and another key returns None."""
    about, key = keys.create("ci", role="publish", namespace="team", actor="ada")
    assert Caller("ci", "publish", "team") == keys.live().caller(key)
    assert ("ci", "publish", "team", "ada") == (
        about.name, about.role, about.namespace, about.created_by,
    )  # fmt: skip
    for wrong in ("", key[:-1], key + "x", key.upper(), about.prefix, "\0", "\ud800"):
        assert keys.live().caller(wrong) is None


def test_keys_are_long_random_and_different(keys: Keys) -> None:
    """A key has 256 random bits, and its prefix distinguishes it without revealing it."""
    made = [keys.create(f"key-{i}", role="read") for i in range(5)]
    assert 5 == len({key for _, key in made})
    for about, key in made:
        assert key.startswith("weft_")
        assert len(key) >= 48
        assert key.startswith(about.prefix)
        assert len(about.prefix) <= 9


def test_the_database_does_not_hold_the_key(keys: Keys, database: Database) -> None:
    """No column of the table contains a part of the key after its prefix."""
    _, key = keys.create("ci", role="admin", all_namespaces=True)
    with database.read() as session:
        row = session.execute(text("SELECT * FROM api_keys")).one()
    assert key[9:] not in str(row)


def test_a_revoked_key_has_no_caller(keys: Keys) -> None:
    """A revocation is immediate and permanent, may be repeated, and keeps the name taken."""
    _, key = keys.create("ci", role="read")
    keys.revoke("ci")
    (first,) = keys.page().items
    keys.revoke("ci")
    assert keys.live().caller(key) is None
    assert first.revoked_at is not None
    assert (first,) == keys.page().items
    with pytest.raises(KeyNameTaken, match="ci"):
        keys.create("ci", role="read")


def test_revoking_nothing_is_told(keys: Keys) -> None:
    """An unknown key, and for an admin of a namespace a key of another one, are both unknown."""
    keys.create("ci", role="read")
    with pytest.raises(UnknownKey, match="cd"):
        keys.revoke("cd")
    with pytest.raises(UnknownKey, match="ci"):
        keys.revoke("ci", caller=TEAM)


@pytest.mark.parametrize("name", ["a", "ci-2.x_y", "a" * 60])
def test_a_plain_name_of_up_to_60_characters_is_taken(keys: Keys, name: str) -> None:
    """Letters, digits and . _ - after a letter make a name of a key and of a namespace."""
    assert (name, name) == (
        keys.create(name, role="read")[0].name,
        keys.create("other", role="read", namespace=name)[0].namespace,
    )


@pytest.mark.parametrize("name", ["", "CI", "a b", "a/b", "1a", "é", "a\n", "a" * 61])
def test_names_are_plain(keys: Keys, name: str) -> None:
    """Invalid names of keys and of namespaces are refused."""
    if name:
        with pytest.raises(NameInvalid):
            keys.create("fine", role="read", namespace=name)
    with pytest.raises(NameInvalid):
        keys.create(name, role="read")


def test_there_is_a_key_from_the_first_on(keys: Keys) -> None:
    """Requests need a key even after the last key is revoked."""
    assert not keys.live().any
    keys.create("ci", role="read")
    keys.revoke("ci")
    assert keys.live().any


def test_a_list_goes_by_pages_and_namespaces(keys: Keys) -> None:
    """Keys are listed by name; an admin of a namespace sees only its keys."""
    for name, namespace in (("c", None), ("a", "team"), ("b", "other"), ("d", "team")):
        keys.create(name, role="read", namespace=namespace)
    first = keys.page(limit=3)
    rest = keys.page(limit=3, cursor=first.next_cursor)
    assert (["a", "b", "c"], ["d"]) == ([k.name for k in first.items], [k.name for k in rest.items])
    assert rest.next_cursor is None
    assert ["a", "d"] == [key.name for key in keys.page(caller=TEAM).items]
    with pytest.raises(CursorInvalid):
        keys.page(cursor="nonsense")


def test_use_is_noted_to_the_minute(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A use within a minute of the recorded one is not recorded, the next one is."""
    keys.create("ci", role="read")
    keys.create("idle", role="read")
    assert keys.page().items[0].last_used_at is None
    first = datetime(2026, 1, 1, tzinfo=UTC)
    for seconds, recorded in ((0, 0), (59, 0), (61, 61), (120, 61), (122, 122)):
        monkeypatch.setattr(registry.access.keys, "now", lambda s=seconds: first + timedelta(0, s))
        keys.used(["ci", "nobody"])
        assert first + timedelta(0, recorded) == keys.page().items[0].last_used_at
    assert keys.page().items[1].last_used_at is None
