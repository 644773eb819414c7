"""Tests of resolving references and of the suggested names."""

import pytest

from registry.errors import DigestInvalid, ReferenceInvalid, UnknownReference, VersionRetired
from registry.references import parse_reference
from registry.service import Registry
from registry.types import ResolvedAdapter, ResolvedArtifact, ResolvedComposition
from registry.versions import resolve
from tests.registry.conftest import BASE, DOWN, Q, Register


def _number(registry: Registry, text: str) -> int:
    resolved = registry.versions.resolve(parse_reference(text))
    assert isinstance(resolved, ResolvedAdapter | ResolvedComposition)
    return resolved.number


def _compose(registry: Registry, digest: str, recipe: str = "e") -> None:
    registry.compositions.add(
        "mix", expression="cat(legal)", recipe_text="text " + recipe, recipe_digest=recipe * 64,
        base=BASE, ingredients=[(digest, 1.0)], actor="me",
    )  # fmt: skip


def test_an_adapter_resolves_to_all_that_a_merge_needs(
    registry: Registry, register: Register
) -> None:
    """The resolution has name, number, digest, base, rank and the shapes of all modules."""
    digest = register("legal")
    resolved = registry.versions.resolve(parse_reference("legal"))
    assert isinstance(resolved, ResolvedAdapter)
    assert ("legal", 1, digest, BASE, 2) == (
        resolved.name, resolved.number, resolved.digest, resolved.base, resolved.rank,
    )  # fmt: skip
    assert [Q, DOWN] == list(resolved.modules)
    assert (16, 24) == (resolved.modules[DOWN].d_out, resolved.modules[DOWN].d_in)
    assert resolved == registry.versions.resolve(parse_reference(digest))


def test_a_bare_name_means_the_highest_version_in_use(
    registry: Registry, register: Register
) -> None:
    """After the highest version is retired, the bare name resolves to the previous one."""
    register("legal")
    register("legal", seed=1)
    assert 2 == _number(registry, "legal")
    registry.versions.retire(parse_reference("legal@2"), "me")
    assert 1 == _number(registry, "legal")
    registry.versions.retire(parse_reference("legal@1"), "me")
    with pytest.raises(VersionRetired, match="legal@2"):
        registry.versions.resolve(parse_reference("legal"))


def test_an_alias_is_read_at_every_request(registry: Registry, register: Register) -> None:
    """After a move, the alias resolves to the new version, number and digest to the old one."""
    old = register("legal", alias="prod")
    register("legal", seed=1)
    assert 1 == _number(registry, "legal@prod")
    registry.versions.set_alias("legal", "prod", 2, "me")
    assert 2 == _number(registry, "legal@prod")
    assert 1 == _number(registry, "legal@1")
    assert 1 == _number(registry, old)


def test_a_composition_resolves_to_its_recipe(registry: Registry, register: Register) -> None:
    """The resolution has the recipe's text and digest, the expression and the base."""
    digest = register("legal")
    _compose(registry, digest)
    _compose(registry, digest, "f")
    registry.versions.set_alias("mix", "prod", 1, "me")
    assert ResolvedComposition(
        "mix", 1, "cat(legal)", "text e", "e" * 64, BASE
    ) == registry.versions.resolve(parse_reference("mix@prod"))
    assert 2 == _number(registry, "mix")
    assert 1 == _number(registry, "mix@1")


def test_an_artifact_resolves_by_its_digest(registry: Registry, register: Register) -> None:
    """The digest of an artifact resolves to its first recipe."""
    _compose(registry, register("legal"))
    registry.compositions.record_artifact("e" * 64, "a" * 64, bytes=1, seconds=0.1, report={})
    assert ResolvedArtifact("a" * 64, "text e", "e" * 64, BASE) == registry.versions.resolve(
        parse_reference("a" * 64)
    )


def test_a_retired_version_is_not_served_by_any_name(
    registry: Registry, register: Register
) -> None:
    """A retired version is refused by number and digest, unless another name has the digest."""
    digest = register("legal")
    registry.versions.retire(parse_reference("legal@1"), "me")
    for text in ("legal@1", digest):
        with pytest.raises(VersionRetired):
            registry.versions.resolve(parse_reference(text))
    register("law")
    assert "law" == getattr(registry.versions.resolve(parse_reference(digest)), "name", None)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("legl", "legal"),
        ("legal@pord", "legal@prod"),
        ("legal@7", "legal"),
        ("acme/medcal", "acme/medical"),
        ("mxi", "mix"),
    ],
)
def test_an_unknown_reference_suggests_near_ones(
    registry: Registry, register: Register, text: str, near: str
) -> None:
    """Up to three similar names, aliases and compositions in use are suggested."""
    _compose(registry, register("legal", alias="prod"))
    register("acme/medical", seed=1)
    for number in range(5):
        register(f"legal-{number}", seed=2)
    with pytest.raises(UnknownReference) as caught:
        registry.versions.resolve(parse_reference(text))
    assert text == caught.value.text
    assert near in caught.value.near
    assert len(caught.value.near) <= 3


def test_one_thread_at_a_time_looks_for_near_names(registry: Registry, register: Register) -> None:
    """While another thread looks for near names, an unknown reference is refused without any."""
    register("legal")
    with resolve._suggesting, pytest.raises(UnknownReference) as busy:
        registry.versions.resolve(parse_reference("legals"))
    assert () == busy.value.near
    with pytest.raises(UnknownReference) as idle:
        registry.versions.resolve(parse_reference("legals"))
    assert ("legal",) == idle.value.near


def test_nothing_near_is_nothing_suggested(registry: Registry, register: Register) -> None:
    """A distant name, a digest and an empty registry have no suggestions."""
    for text in ("zzz", "a" * 64):
        with pytest.raises(UnknownReference) as caught:
            registry.versions.resolve(parse_reference(text))
        assert () == caught.value.near


def test_a_base_is_no_adapter(registry: Registry, register: Register) -> None:
    """The name of a base is not a reference and is not suggested."""
    registry.bases.add("plain", shapes={})
    with pytest.raises(UnknownReference) as caught:
        registry.versions.resolve(parse_reference("plain"))
    assert () == caught.value.near


def test_the_beginning_of_a_digest_is_enough(registry: Registry, register: Register) -> None:
    """A digest may be abbreviated to 12 digits if it is unique; a name with the same text wins."""
    digest = register("law")
    for start in (digest[:12], digest[:40]):
        resolved = registry.versions.resolve(parse_reference(start))
        assert isinstance(resolved, ResolvedAdapter)
        assert resolved.digest == digest
        assert "law" == registry.catalogue.adapter_version(parse_reference(start)).name
    with pytest.raises(UnknownReference):
        registry.versions.resolve(parse_reference("0" * 12))


def test_an_artifact_is_shown_for_the_beginning_of_its_digest(
    registry: Registry, register: Register
) -> None:
    """12 digits are enough; fewer are no digest, and unknown ones no artifact."""
    _compose(registry, register("legal"))
    registry.compositions.record_artifact("e" * 64, "a" * 64, bytes=1, seconds=0.1, report={})
    for length in (12, 63, 64):
        assert "a" * 64 == registry.catalogue.artifact("a" * length).digest
    for text in ("a" * 11, "a" * 65, "A" * 64, "law"):
        with pytest.raises(DigestInvalid):
            registry.catalogue.artifact(text)
    with pytest.raises(UnknownReference):
        registry.catalogue.artifact("b" * 12)


def test_an_ambiguous_beginning_says_how_many_digests_it_fits(
    registry: Registry, register: Register
) -> None:
    """The error requests more digits; a name with the same text takes precedence."""
    register("law")
    digests = ["a" * 12 + "0" * 52, "a" * 12 + "1" * 52]
    for digest in digests:
        registry.compositions.save_recipe("text", digest[::-1], BASE, [])
        registry.compositions.record_artifact(digest[::-1], digest, bytes=1, seconds=1.0, report={})
    with pytest.raises(ReferenceInvalid, match="2 digests begin with these"):
        registry.versions.resolve(parse_reference("a" * 12))
    register("a" * 12)
    resolved = registry.versions.resolve(parse_reference("a" * 12))
    assert isinstance(resolved, ResolvedAdapter)
    assert resolved.name == "a" * 12
