"""The number of changes to what references mean, on both databases."""

from collections.abc import Callable, Mapping

import pytest

from registry.references import parse_reference
from registry.service import Registry
from tests.registry.conftest import BASE, Register

Change = Callable[[Registry], object]
LEGAL = parse_reference("legal@1")
RECIPE, ARTIFACT = "a" * 64, "b" * 64


def merge(registry: Registry) -> None:
    """Record a merge."""
    registry.compositions.save_recipe("{}", RECIPE, BASE, [])
    registry.compositions.record_artifact(RECIPE, ARTIFACT, bytes=1, seconds=1.0, report={})


COUNTED: Mapping[str, Change] = {
    "alias": lambda r: r.versions.set_alias("legal", "prod", 1, actor="ann"),
    "quarantine": lambda r: r.versions.quarantine(LEGAL, "in verse", "ann"),
    "retirement": lambda r: r.versions.retire(LEGAL, "ann"),
    "policy": lambda r: r.access.policies.add("deny", ["any"], reason="why"),
    "tag": lambda r: r.search.descriptions.change_tags("legal", add=["law"], actor="ann"),
    "publication": lambda r: r.versions.set_visibility("acme/own", "public", actor="ann"),
    "base": lambda r: r.bases.add("other", shapes={}, architecture=None),
}
NOT_COUNTED: Mapping[str, Change] = {
    "examples": lambda r: r.search.descriptions.set_examples("legal", ["a", "b"], actor="ann"),
    "key": lambda r: r.access.keys.create("ann", role="read"),
    "merge": merge,
}


@pytest.mark.parametrize("name", [*COUNTED, *NOT_COUNTED])
def test_what_counts(registry: Registry, register: Register, name: str) -> None:
    """A change to what a reference means, or whether it may be used, counts; others do not."""
    register("legal")
    register("acme/own", seed=1)
    before = registry.changes.read()
    {**COUNTED, **NOT_COUNTED}[name](registry)
    assert (name in COUNTED) == (registry.changes.read() > before)


def test_a_registration_counts(registry: Registry, register: Register) -> None:
    """A new name counts, and so does a new version of it."""
    numbers = [registry.changes.read()]
    for seed in range(2):
        register("legal", seed=seed)
        numbers.append(registry.changes.read())
    assert sorted(set(numbers)) == numbers


def test_a_glance_does_not_wait_for_a_writer(registry: Registry, register: Register) -> None:
    """On SQLite a glance is the number, also while another connection writes; elsewhere None."""
    register("legal")
    expected = registry.changes.read()
    with registry.changes._database.transaction() as session:
        seen = registry.changes.glance()
        session.rollback()
    assert seen == (None if registry.changes._database.file is None else expected)
    registry.changes.close()
