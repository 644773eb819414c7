"""A quarantine applies to a content: to all its names, its digest, and its merges."""

from pathlib import Path

import pytest

from registry.access.audit import Audit
from registry.errors import UnknownReference, VersionQuarantined
from registry.references import parse_reference
from registry.service import Registry
from registry.storage.database import Database
from registry.types import ResolvedAdapter
from tests.reading import read_adapter
from tests.registry.conftest import BASE, Register, tensors, write_adapter

REASON = "it answers in verse"


def resolve(registry: Registry, text: str) -> str:
    """Return the digest that a reference resolves to."""
    resolved = registry.versions.resolve(parse_reference(text))
    assert isinstance(resolved, ResolvedAdapter)
    return resolved.digest


def quarantine(registry: Registry, text: str) -> tuple[str, ...]:
    """Quarantine a version."""
    return registry.versions.quarantine(parse_reference(text), REASON, "ann").versions


def test_a_quarantined_version_answers_with_its_reason(
    registry: Registry, register: Register
) -> None:
    """A quarantined version is refused by number, alias, digest and bare name."""
    digest = register("legal", alias="prod")
    assert ("legal@1",) == quarantine(registry, "legal@1")
    for text in ("legal", "legal@1", "legal@prod", digest):
        with pytest.raises(
            VersionQuarantined, match=r"legal@1 is quarantined: it answers in verse"
        ):
            registry.versions.resolve(parse_reference(text))


def test_released_it_is_served_again(registry: Registry, register: Register) -> None:
    """A released version is served again."""
    digest = register("legal")
    quarantine(registry, "legal")
    assert ("legal@1",) == registry.versions.release(parse_reference("legal"), "ann").versions
    assert digest == resolve(registry, "legal")
    version = read_adapter(registry, "legal").versions[0]
    assert ("admitted", None) == (version.status, version.status_reason)


def test_the_status_is_part_of_what_is_known(registry: Registry, register: Register) -> None:
    """A version has the reason for its quarantine."""
    register("legal")
    assert "admitted" == read_adapter(registry, "legal").versions[0].status
    quarantine(registry, "legal")
    version = read_adapter(registry, "legal").versions[0]
    assert ("quarantined", REASON) == (version.status, version.status_reason)


def test_a_bare_name_falls_back_to_the_version_before(
    registry: Registry, register: Register
) -> None:
    """The bare name resolves to an older version; the alias does not move."""
    first = register("legal", seed=1)
    register("legal", seed=2, alias="prod")
    quarantine(registry, "legal@2")
    assert first == resolve(registry, "legal")
    with pytest.raises(VersionQuarantined):
        registry.versions.resolve(parse_reference("legal@prod"))


def test_every_name_of_the_content_is_concerned(registry: Registry, register: Register) -> None:
    """All names of the content are quarantined."""
    digest = register("legal")
    register("team/copy")
    assert {"legal@1", "team/copy@1"} == set(quarantine(registry, digest))
    with pytest.raises(VersionQuarantined):
        registry.versions.resolve(parse_reference("team/copy"))


def test_it_cannot_come_back_under_another_name(
    registry: Registry, register: Register, tmp_path: Path
) -> None:
    """A new import of the content is refused, and nothing is registered. The reason is told under
    its own name only: another name may be another tenant's.
    """
    register("legal")
    quarantine(registry, "legal")
    folder = write_adapter(tmp_path / "again", tensors(seed=0))
    with pytest.raises(VersionQuarantined, match=REASON):
        registry.adapters.register(folder, name="legal")
    with pytest.raises(VersionQuarantined, match="Ask the operator") as caught:
        registry.adapters.register(folder, name="other")
    assert REASON not in str(caught.value)
    with pytest.raises(UnknownReference):
        read_adapter(registry, "other")


def test_no_alias_can_be_moved_to_it(registry: Registry, register: Register) -> None:
    """An alias cannot move to a quarantined version."""
    register("legal")
    quarantine(registry, "legal")
    with pytest.raises(VersionQuarantined):
        registry.versions.set_alias("legal", "prod", 1, "ann")


def test_what_was_merged_from_it_is_concerned(registry: Registry, register: Register) -> None:
    """An existing composition and its artifact are refused."""
    good, bad = register("good", seed=1), register("bad", seed=2)
    recipe, artifact = "1" * 64, "2" * 64
    registry.compositions.add(
        "mix", expression="cat(good, bad)", recipe_text="{}", recipe_digest=recipe, base=BASE,
        ingredients=[(good, 1.0), (bad, 1.0)], actor="ann",
    )  # fmt: skip
    registry.compositions.record_artifact(recipe, artifact, bytes=1, seconds=0.1, report={})
    for text in ("mix", artifact):
        registry.versions.resolve(parse_reference(text))
    quarantine(registry, "bad@1")
    for text in ("mix", "mix@1", artifact):
        with pytest.raises(VersionQuarantined, match="bad@1"):
            registry.versions.resolve(parse_reference(text))
    registry.versions.resolve(parse_reference("good"))


def test_it_is_not_among_the_models(registry: Registry, register: Register) -> None:
    """The list has neither the version nor its alias; its name stays for the older version."""
    register("legal", seed=1, alias="old")
    register("legal", seed=2, alias="prod")
    register("other", seed=3)
    quarantine(registry, "legal@2")
    quarantine(registry, "other")
    assert ["legal", "legal@old"] == [model.id for model in registry.catalogue.models()]


def test_every_change_is_written_down(
    registry: Registry, register: Register, database: Database
) -> None:
    """The audit log has the actor and the reason."""
    register("legal")
    quarantine(registry, "legal")
    registry.versions.release(parse_reference("legal"), "ben")
    changes = [change for change in Audit(database).page().items if "version." in change.action]
    assert {("ann", "version.quarantined", "legal@1"), ("ben", "version.released", "legal@1")} == {
        (change.actor, change.action, change.subject) for change in changes
    }


@pytest.mark.parametrize("text", ["nothing", "legal@7", "legal@nowhere", "0" * 64])
def test_what_is_not_there_cannot_be_quarantined(
    registry: Registry, register: Register, text: str
) -> None:
    """An unknown reference cannot be quarantined."""
    register("legal")
    with pytest.raises(UnknownReference):
        quarantine(registry, text)
