"""What a reference means, at this moment and to whom it is near."""

import pytest

from registry.errors import ReferenceInvalid, UnknownReference, VersionRetired
from registry.references import parse_reference
from registry.service import Registry
from registry.types import ResolvedAdapter, ResolvedArtifact, ResolvedComposition
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
    """Name, number, digest, base, rank and each module's shape."""
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
    """Retiring the highest makes the one before it the meaning."""
    register("legal")
    register("legal", seed=1)
    assert 2 == _number(registry, "legal")
    registry.versions.retire(parse_reference("legal@2"), "me")
    assert 1 == _number(registry, "legal")
    registry.versions.retire(parse_reference("legal@1"), "me")
    with pytest.raises(VersionRetired, match="legal@2"):
        registry.versions.resolve(parse_reference("legal"))


def test_an_alias_is_read_at_every_request(registry: Registry, register: Register) -> None:
    """The next resolution after a move sees it; the old version answers by number and digest."""
    old = register("legal", alias="prod")
    register("legal", seed=1)
    assert 1 == _number(registry, "legal@prod")
    registry.versions.set_alias("legal", "prod", 2, "me")
    assert 2 == _number(registry, "legal@prod")
    assert 1 == _number(registry, "legal@1")
    assert 1 == _number(registry, old)


def test_a_composition_resolves_to_its_recipe(registry: Registry, register: Register) -> None:
    """Text and digest of the recipe, the expression, the base; versions and aliases as usual."""
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
    """It comes with the recipe that it was first made by."""
    _compose(registry, register("legal"))
    registry.compositions.record_artifact("e" * 64, "a" * 64, bytes=1, seconds=0.1, report={})
    assert ResolvedArtifact("a" * 64, "text e", "e" * 64, BASE) == registry.versions.resolve(
        parse_reference("a" * 64)
    )


def test_a_retired_version_is_not_served_by_any_name(
    registry: Registry, register: Register
) -> None:
    """By number and by digest; a digest that another name still uses goes on answering."""
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
    """Names, aliases and compositions in use, three at most."""
    _compose(registry, register("legal", alias="prod"))
    register("acme/medical", seed=1)
    for number in range(5):
        register(f"legal-{number}", seed=2)
    with pytest.raises(UnknownReference) as caught:
        registry.versions.resolve(parse_reference(text))
    assert text == caught.value.text
    assert near in caught.value.near
    assert len(caught.value.near) <= 3


def test_nothing_near_is_nothing_suggested(registry: Registry, register: Register) -> None:
    """Neither for a far name, nor for a digest, nor in an empty registry."""
    for text in ("zzz", "a" * 64):
        with pytest.raises(UnknownReference) as caught:
            registry.versions.resolve(parse_reference(text))
        assert () == caught.value.near


def test_a_base_is_no_adapter(registry: Registry, register: Register) -> None:
    """Its name is no reference, even where the grammar would allow it, and is not suggested."""
    registry.bases.add("plain", shapes={})
    with pytest.raises(UnknownReference) as caught:
        registry.versions.resolve(parse_reference("plain"))
    assert () == caught.value.near


def test_the_beginning_of_a_digest_is_enough(registry: Registry, register: Register) -> None:
    """From 12 digits on, if no other digest begins like it; a name that reads the same wins."""
    digest = register("law")
    for start in (digest[:12], digest[:40]):
        found = registry.versions.resolve(parse_reference(start))
        assert isinstance(found, ResolvedAdapter)
        assert found.digest == digest
        assert "law" == registry.catalogue.adapter_version(parse_reference(start)).name
    with pytest.raises(UnknownReference):
        registry.versions.resolve(parse_reference("0" * 12))


def test_an_ambiguous_beginning_says_how_many_digests_it_fits(
    registry: Registry, register: Register
) -> None:
    """The error asks for more digits; a name of the same letters hides the digests."""
    register("law")
    digests = ["a" * 12 + "0" * 52, "a" * 12 + "1" * 52]
    for digest in digests:
        registry.compositions.save_recipe("text", digest[::-1], BASE, [])
        registry.compositions.record_artifact(digest[::-1], digest, bytes=1, seconds=1.0, report={})
    with pytest.raises(ReferenceInvalid, match="2 digests begin with these"):
        registry.versions.resolve(parse_reference("a" * 12))
    register("a" * 12)
    found = registry.versions.resolve(parse_reference("a" * 12))
    assert isinstance(found, ResolvedAdapter)
    assert found.name == "a" * 12
