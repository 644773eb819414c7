"""Tests of the bases of a registry."""

import pytest

from registry.errors import BaseConflict, NameInvalid, NameTaken, UnknownBase
from registry.service import Registry
from tests.registry.conftest import BASE, SHAPES, Register


@pytest.mark.parametrize(
    "text", [BASE, BASE.lower(), "Tiny-Instruct", "unsloth/tiny-instruct-bnb-4bit"]
)
def test_a_base_answers_to_every_spelling(registry: Registry, text: str) -> None:
    """Name, case, owner and quantised copies resolve to the same base."""
    base = registry.bases.get(text)
    assert BASE == base.name
    assert SHAPES == base.shapes
    assert "LlamaForCausalLM" == base.architecture


def test_saying_it_again_adds_aliases(registry: Registry) -> None:
    """A base that is added twice is one base with the aliases of both calls."""
    registry.bases.add(BASE, shapes=SHAPES, aliases=["/models/tiny"])
    again = registry.bases.add(BASE, shapes=SHAPES, aliases=["Small-Instruct"])
    assert {"tiny-instruct", "/models/tiny", "small-instruct"} == again.keys
    assert BASE == registry.bases.get("/models/tiny").name
    assert (again,) == registry.bases.list()


def test_other_shapes_are_another_base(registry: Registry) -> None:
    """A base cannot change its shapes after adapters were admitted on it."""
    with pytest.raises(BaseConflict, match="other shapes"):
        registry.bases.add(BASE, shapes={"lm_head": (40, 17)})
    assert SHAPES == registry.bases.get(BASE).shapes


def test_a_spelling_means_one_base(registry: Registry) -> None:
    """A base whose name or alias belongs to another base is refused, and nothing is stored."""
    with pytest.raises(BaseConflict, match=f"'tiny-instruct' already belongs to {BASE}"):
        registry.bases.add("other/Tiny-Instruct", shapes=SHAPES)
    with pytest.raises(BaseConflict, match=f"already belongs to {BASE}"):
        registry.bases.add("acme/Other", shapes=SHAPES, aliases=["x/tiny-instruct"])
    assert [BASE] == [base.name for base in registry.bases.list()]


def test_an_unknown_base_lists_the_known(registry: Registry) -> None:
    """The error contains the name and the registered bases."""
    with pytest.raises(UnknownBase) as caught:
        registry.bases.get("acme/Tiny")
    assert ("acme/Tiny", (BASE,)) == (caught.value.name, caught.value.known)


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "x" * 201])
def test_a_base_has_a_printable_name(registry: Registry, name: str) -> None:
    """An empty, long or unprintable name is refused."""
    with pytest.raises(NameInvalid):
        registry.bases.add(name, shapes=SHAPES)


def test_a_base_and_an_adapter_never_share_a_name(registry: Registry, register: Register) -> None:
    """A base and an adapter cannot have the same name, in either order."""
    register("legal")
    with pytest.raises(NameTaken, match="one adapter"):
        registry.bases.add("legal", shapes=SHAPES)
    registry.bases.add("plain", shapes=SHAPES)
    with pytest.raises(NameTaken, match="one base"):
        register("plain")
