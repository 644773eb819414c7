"""Tests of the registry's lists."""

from pathlib import Path

import pytest

from registry.errors import UnknownReference
from registry.references import parse_reference
from registry.service import Registry
from registry.testing import temporary_registry
from tests.reading import read_adapter, read_composition
from tests.registry.conftest import BASE, SHAPES, Register


def _compose(registry: Registry, name: str) -> None:
    registry.compositions.add(
        name, expression="cat(a)", recipe_text="{}", recipe_digest="e" * 64, base=BASE,
        ingredients=[], actor="me",
    )  # fmt: skip


def test_lists_show_the_newest_version_in_use(registry: Registry, register: Register) -> None:
    """Each adapter has one line, by name, with its aliases; retired adapters are omitted."""
    register("b", alias="prod")
    newest = register("b", seed=1)
    register("a", seed=2)
    register("gone", seed=3)
    registry.versions.retire(parse_reference("gone@1"), "me")
    a, b = registry.catalogue.adapters().items
    assert ("a", {}, 1) == (a.name, a.aliases, a.number)
    assert ("b", {"prod": 1}, 2, newest, BASE, 2) == (
        b.name, b.aliases, b.number, b.digest, b.base, b.rank,
    )  # fmt: skip
    version = read_adapter(registry, "b").versions[1]
    assert (version.bytes, version.norm, version.created_at) == (b.bytes, b.norm, b.created_at)


def test_compositions_are_listed_alike(registry: Registry) -> None:
    """A line has name, aliases, expression, recipe and base of the newest version."""
    _compose(registry, "mix")
    registry.versions.set_alias("mix", "prod", 1, "me")
    (mix,) = registry.catalogue.compositions().items
    assert ("mix", {"prod": 1}, 1, "cat(a)", "e" * 64, BASE) == (
        mix.name, mix.aliases, mix.number, mix.expression, mix.recipe_digest, mix.base,
    )  # fmt: skip
    assert read_composition(registry, "mix").versions[0].created_at == mix.created_at


def test_models_are_all_that_can_be_asked_for_by_name(
    registry: Registry, register: Register
) -> None:
    """Adapters, compositions and their aliases are listed as models, sorted, with their kind."""
    register("legal", alias="prod")
    _compose(registry, "mix")
    registry.versions.set_alias("mix", "best", 1, "me")
    models = registry.catalogue.models()
    assert [
        ("legal", "adapter"), ("legal@prod", "adapter"),
        ("mix", "composition"), ("mix@best", "composition"),
    ] == [(model.id, model.kind) for model in models]  # fmt: skip
    assert {BASE} == {model.base for model in models}
    assert all(registry.versions.resolve(parse_reference(model.id)) for model in models)


def test_an_adapter_is_no_composition(registry: Registry, register: Register) -> None:
    """The wrong kind of a name is an unknown reference, like a name that does not exist."""
    register("legal")
    _compose(registry, "mix")
    with pytest.raises(UnknownReference, match="mix"):
        read_adapter(registry, "mix")
    with pytest.raises(UnknownReference, match="legal"):
        read_composition(registry, "legal")
    with pytest.raises(UnknownReference) as caught:
        read_adapter(registry, "legl")
    assert ("legal",) == caught.value.near


def test_a_registry_is_there_again_after_a_restart(tmp_path: Path) -> None:
    """`temporary_registry` on the same folder opens the same registry."""
    first = temporary_registry(tmp_path)
    first.bases.add(BASE, shapes=SHAPES)
    assert first.bases.list() == temporary_registry(tmp_path).bases.list()
