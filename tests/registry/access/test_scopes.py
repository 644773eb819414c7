"""What a key without a namespace sees, names inside namespaces, and what stays across them."""

import pytest

from registry.access.keys import Keys
from registry.callers import NO_LIMITS, NO_NAMESPACE, Caller, KeyLimits
from registry.errors import (
    AccessDenied,
    ContentQuarantined,
    KeyNameTaken,
    KeyScopeInvalid,
    NameInvalid,
    VersionInUse,
)
from registry.storage.database import Database


@pytest.fixture
def keys(database: Database) -> Keys:
    """The keys of an empty registry."""
    return Keys(database)


def test_a_key_without_a_namespace_sees_what_is_public(keys: Keys) -> None:
    """A key sees every namespace only if all of them were asked for by name."""
    _, plain = keys.create("plain", role="chat")
    _, every = keys.create("every", role="chat", all_namespaces=True)
    live = keys.live()
    assert Caller("plain", "chat", NO_NAMESPACE) == live.caller(plain)
    assert Caller("every", "chat", None) == live.caller(every)


@pytest.mark.parametrize("role", ["publish", "admin"])
def test_a_role_that_changes_things_needs_a_scope(keys: Keys, role: str) -> None:
    """A key to publish or administer needs a namespace, or all of them; the error says how."""
    with pytest.raises(KeyScopeInvalid, match="--all-namespaces"):
        keys.create("k", role=role)  # type: ignore[arg-type]
    with pytest.raises(KeyScopeInvalid, match="not both"):
        keys.create("k", role=role, namespace="team", all_namespaces=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["legal", "team/legal", "/legal"])
def test_a_caller_without_a_namespace_changes_nothing(name: str) -> None:
    """No name, with or without a namespace, may be changed by a caller with rights to none."""
    with pytest.raises(AccessDenied, match="what is public"):
        Caller("plain", "chat", NO_NAMESPACE).need_name(name)
    with pytest.raises(AccessDenied, match="what is public"):
        Caller("plain", "chat", NO_NAMESPACE).need_everything()


def test_a_name_may_be_inside_the_keys_own_namespace(keys: Keys) -> None:
    """`team/ci` and `other/ci` are two keys; a name inside another namespace is refused."""
    for own in ("team", "other"):
        keys.create(f"{own}/ci", role="read", namespace=own)
    for namespace in ("other", None):
        with pytest.raises(NameInvalid, match="namespace"):
            keys.create("team/more", role="read", namespace=namespace)


@pytest.mark.parametrize("name", ["anybody", "local", "settings-1"])
def test_names_of_other_callers_are_taken(keys: Keys, name: str) -> None:
    """No key has the name of a caller that is not a key of the registry."""
    with pytest.raises(KeyNameTaken):
        keys.create(name, role="read")


def test_limits_are_kept_with_the_key(keys: Keys) -> None:
    """The limits of a key follow its caller, and change with it."""
    own = KeyLimits(requests=60, build_seconds=2.5)
    about, key = keys.create("ci", role="chat", limits=own)
    before = keys.live()
    assert own == about.limits == before.callers.popitem()[1].limits  # type: ignore[attr-defined]
    keys.set_limits("ci", NO_LIMITS)
    caller = keys.live(before).caller(key)
    assert caller is not None
    assert NO_LIMITS == caller.limits


def test_live_keys_are_read_again_only_after_a_change(keys: Keys) -> None:
    """Without a change the known keys are returned; creating, limiting and revoking are changes."""
    _, key = keys.create("ci", role="read")
    first = keys.live()
    keys.used(["ci"])
    assert keys.live(first) is first
    keys.set_limits("ci", KeyLimits(requests=1))
    second = keys.live(first)
    keys.revoke("ci")
    third = keys.live(second)
    keys.create("cd", role="read")
    assert 4 == len({id(live) for live in (first, second, third, keys.live(third))})
    assert third.caller(key) is None
    assert third.any


def test_refusals_say_nothing_across_namespaces() -> None:
    """A refused content quotes no reason, and a version in use neither name nor number of users
    that the caller cannot see, nor has the answer a member with them."""
    refused = ContentQuarantined("team/mine")
    assert "reason" not in str(refused)
    assert refused.reason == "its content is quarantined"
    in_use = VersionInUse("team/a", 1, (), (), hidden=True)
    assert "in compositions that your key cannot see" in str(in_use)
    assert "hidden" not in vars(in_use)
