"""Tags and examples: their limits, and their effect on search."""

import pytest

from registry.errors import UnknownReference
from registry.search.errors import TagInvalid
from registry.service import Registry
from tests.registry.conftest import Register


def test_tags_are_a_sorted_set(registry: Registry, register: Register) -> None:
    """Adding a tag twice and removing an absent one change nothing."""
    register("legal")
    after = registry.search.descriptions.change_tags(
        "legal", add=["law", "eu:gdpr", "law"], actor="ada"
    )
    assert ("eu:gdpr", "law") == after
    after = registry.search.descriptions.change_tags(
        "legal", add=["a.b-c_1"], remove=["law", "none"], actor="ada"
    )
    assert ("a.b-c_1", "eu:gdpr") == after == registry.search.descriptions.tags("legal")


@pytest.mark.parametrize("tag", ["", "Law", "two words", "-x", "x" * 61, "tag,tag", "law\n", "ö"])
def test_a_bad_tag_changes_nothing(registry: Registry, register: Register, tag: str) -> None:
    """All tags are checked before one is added."""
    register("legal")
    with pytest.raises(TagInvalid, match="lower-case"):
        registry.search.descriptions.change_tags("legal", add=["fine", tag], actor="ada")
    assert () == registry.search.descriptions.tags("legal")


def test_an_adapter_has_so_many_tags(registry: Registry, register: Register) -> None:
    """The fifty-first tag is refused with the whole change."""
    register("legal")
    registry.search.descriptions.change_tags(
        "legal", add=[f"t{number}" for number in range(50)], actor="ada"
    )
    with pytest.raises(TagInvalid, match="at most 50"):
        registry.search.descriptions.change_tags("legal", add=["more"], actor="ada")
    assert 50 == len(registry.search.descriptions.tags("legal"))


def test_examples_keep_their_order(registry: Registry, register: Register) -> None:
    """Setting examples replaces the earlier ones."""
    register("legal")
    registry.search.descriptions.set_examples("legal", ["b", "a"], actor="ada")
    assert ("b", "a") == registry.search.descriptions.examples("legal")
    registry.search.descriptions.set_examples("legal", ["c"], actor="ada")
    assert ("c",) == registry.search.descriptions.examples("legal")


@pytest.mark.parametrize("texts", [["  "], ["a\0b"], ["\ud800"], ["x" * 10_001], ["x"] * 101])
def test_examples_that_are_none(registry: Registry, register: Register, texts: list[str]) -> None:
    """Empty, too long, too many or with NUL, examples are refused and nothing changes."""
    register("legal")
    with pytest.raises(ValueError, match="example"):
        registry.search.descriptions.set_examples("legal", texts, actor="ada")
    assert () == registry.search.descriptions.examples("legal")


def test_nobody_has_tags_or_examples(registry: Registry) -> None:
    """An unknown adapter is an error in every method."""
    said = registry.search.descriptions
    for ask in (
        lambda: said.tags("nobody"),
        lambda: said.examples("nobody"),
        lambda: said.change_tags("nobody", add=["law"], actor="ada"),
        lambda: said.set_examples("nobody", ["a"], actor="ada"),
    ):
        with pytest.raises(UnknownReference):
            ask()


def test_what_is_said_is_what_is_found(registry: Registry, register: Register) -> None:
    """Tags and examples affect search as soon as they are added or removed."""
    for seed, name in enumerate(["one", "two", "three"]):
        register(name, seed=seed)

    def best() -> str:
        return registry.search.finder.search("contract law", limit=1)[0].reference

    registry.search.descriptions.change_tags("two", add=["law"], actor="ada")
    assert "two@1" == best()
    registry.search.descriptions.set_examples(
        "three", ["Is this contract valid under the law?"], actor="ada"
    )
    registry.search.descriptions.change_tags("two", remove=["law"], actor="ada")
    assert "three@1" == best()


def test_a_new_version_is_found_by_the_tags_that_are_there(
    registry: Registry, register: Register
) -> None:
    """Tags belong to the adapter and apply to later versions."""
    register("one", seed=0)
    register("two", seed=1)
    registry.search.descriptions.change_tags("one", add=["law"], actor="ada")
    register("one", seed=2)
    assert "one@2" == registry.search.finder.search("law", limit=1)[0].reference
