"""Tests of recipes, their artifacts, and lineage."""

import math
from collections.abc import Callable

import pytest

from registry.errors import (
    CursorInvalid,
    DigestInvalid,
    NameInvalid,
    NameTaken,
    UnknownBase,
    UnknownReference,
    VersionRetired,
)
from registry.references import parse_reference
from registry.service import Registry
from registry.storage.errors import Conflict
from registry.storage.models import RecipeRow
from registry.types import CompositionVersion, Ingredient
from tests.reading import read_composition
from tests.registry.conftest import BASE, Register

RECIPE, OTHER = "e" * 64, "f" * 64
ARTIFACT, SECOND = "a" * 64, "b" * 64


def _record(registry: Registry, recipe: str, artifact: str) -> str:
    return registry.compositions.record_artifact(
        recipe, artifact, bytes=10, seconds=0.5, report={"norm": 1.0}
    )


def _compose(
    registry: Registry, name: str, recipe: str, *ingredients: tuple[str, float]
) -> CompositionVersion:
    return registry.compositions.add(
        name, expression=f"cat({name})", recipe_text=f"text of {recipe}", recipe_digest=recipe,
        base=BASE, ingredients=ingredients, actor="ann",
    )  # fmt: skip


def test_the_first_artifact_of_a_recipe_is_its_artifact(registry: Registry) -> None:
    """The second writer receives the first writer's digest, and the record does not change."""
    registry.compositions.save_recipe("text", RECIPE, BASE, [])
    assert registry.compositions.artifact_of(RECIPE) is None
    assert ARTIFACT == _record(registry, RECIPE, ARTIFACT)
    assert ARTIFACT == _record(registry, RECIPE, SECOND)
    assert ARTIFACT == registry.compositions.artifact_of(RECIPE)
    with pytest.raises(UnknownReference):
        registry.versions.resolve(parse_reference(SECOND))


def test_two_recipes_may_come_out_the_same(registry: Registry) -> None:
    """Two recipes share one artifact, which resolves to the older recipe."""
    for recipe in (RECIPE, OTHER):
        registry.compositions.save_recipe(f"text of {recipe}", recipe, BASE, [])
        assert ARTIFACT == _record(registry, recipe, ARTIFACT)
    assert [RECIPE, OTHER] == [r.digest for r in registry.compositions.lineage(ARTIFACT).made_by]
    assert RECIPE == getattr(
        registry.versions.resolve(parse_reference(ARTIFACT)), "recipe_digest", None
    )


def test_an_unsaved_recipe_has_no_artifact(registry: Registry) -> None:
    """An unsaved recipe has no artifact, and recording one is an error."""
    assert registry.compositions.artifact_of(RECIPE) is None
    with pytest.raises(UnknownReference, match=RECIPE):
        _record(registry, RECIPE, ARTIFACT)


def test_saving_a_recipe_again_changes_nothing(registry: Registry, register: Register) -> None:
    """The first text and the first ingredients stay."""
    digest = register("legal")
    registry.compositions.save_recipe("text", RECIPE, BASE, [(digest, 0.5)])
    registry.compositions.save_recipe("another text", RECIPE, BASE, [])
    used_by = registry.compositions.lineage(digest).used_by
    assert [(Ingredient(digest, 0.5, ("legal@1",)),)] == [recipe.ingredients for recipe in used_by]


def test_a_bad_recipe_is_not_saved(registry: Registry, register: Register) -> None:
    """A bad digest, base, ingredient or weight has its own error, and nothing is stored."""
    digest = register("legal")
    with pytest.raises(DigestInvalid):
        registry.compositions.save_recipe("text", "../x", BASE, [])
    with pytest.raises(DigestInvalid):
        registry.compositions.save_recipe("text", RECIPE, BASE, [("legal@1", 1.0)])
    with pytest.raises(UnknownBase, match=BASE):
        registry.compositions.save_recipe("text", RECIPE, "acme/Other", [])
    with pytest.raises(UnknownReference, match="0" * 64):
        registry.compositions.save_recipe("text", RECIPE, BASE, [(digest, 1.0), ("0" * 64, 1.0)])
    for weight in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            registry.compositions.save_recipe("text", RECIPE, BASE, [(digest, weight)])
    with pytest.raises(DigestInvalid):
        _record(registry, RECIPE, "x")
    assert () == registry.compositions.lineage(digest).used_by


def test_lineage_goes_both_ways(registry: Registry, register: Register) -> None:
    """Lineage lists the recipes that use a version and those that produced an artifact."""
    one, two = register("one"), register("two", seed=1)
    _compose(registry, "mix", RECIPE, (one, 0.7), (two, -0.3), (one, 0.1))
    _record(registry, RECIPE, ARTIFACT)
    registry.compositions.save_recipe("text", OTHER, BASE, [(ARTIFACT, 1.0)])
    made = registry.compositions.lineage(ARTIFACT)
    of_one, of_two = ("one@1",), ("two@1",)
    assert (
        Ingredient(one, 0.7, of_one), Ingredient(two, -0.3, of_two), Ingredient(one, 0.1, of_one),
    ) == made.made_by[0].ingredients  # fmt: skip
    assert (BASE, ARTIFACT, ("mix@1",)) == (
        made.made_by[0].base, made.made_by[0].artifact, made.made_by[0].compositions,
    )  # fmt: skip
    assert [OTHER] == [recipe.digest for recipe in made.used_by]
    assert ((), made.made_by) == (
        registry.compositions.lineage(two).made_by,
        registry.compositions.lineage(two).used_by,
    )


def test_what_a_version_went_into_comes_by_pages(registry: Registry, register: Register) -> None:
    """The pages list every recipe once, by digest, although others are added meanwhile."""
    digest = register("legal")
    for letter in "fdb":
        registry.compositions.save_recipe(letter, letter * 64, BASE, [(digest, 1.0)])
    first = registry.compositions.lineage(digest, limit=2)
    for letter in "ac":
        registry.compositions.save_recipe(letter, letter * 64, BASE, [(digest, 1.0)])
    second = registry.compositions.lineage(digest, limit=2, cursor=first.next_cursor)
    assert ["b", "d", "f"] == [recipe.text for recipe in (*first.used_by, *second.used_by)]
    assert (("legal@1",), None) == (second.versions, second.next_cursor)
    with pytest.raises(CursorInvalid):
        registry.compositions.lineage(
            digest, cursor=registry.catalogue.bases(limit=1).next_cursor or "x"
        )


def test_lineage_of_nothing(registry: Registry) -> None:
    """An unknown digest and a name are errors instead of empty lineages."""
    with pytest.raises(UnknownReference):
        registry.compositions.lineage("0" * 64)
    with pytest.raises(DigestInvalid):
        registry.compositions.lineage("legal")


def test_composing_makes_versions(registry: Registry, register: Register) -> None:
    """Each new recipe is a version, numbered from 1; a known recipe keeps its version."""
    digest = register("legal")
    first = _compose(registry, "acme/mix", RECIPE, (digest, 1.0))
    second = _compose(registry, "acme/mix", OTHER, (digest, 2.0))
    again = _compose(registry, "acme/mix", RECIPE, (digest, 1.0))
    assert (1, 2) == (first.number, second.number)
    assert first == again
    assert (f"text of {RECIPE}", RECIPE, BASE, "ann", "cat(acme/mix)") == (
        first.recipe_text, first.recipe_digest, first.base, first.created_by, first.expression,
    )  # fmt: skip
    assert (first, second) == read_composition(registry, "acme/mix").versions


def test_two_compositions_may_share_a_recipe(registry: Registry) -> None:
    """Two names may have the same recipe."""
    _compose(registry, "mix", RECIPE)
    _compose(registry, "mixture", RECIPE)
    _record(registry, RECIPE, ARTIFACT)
    assert ("mix@1", "mixture@1") == registry.compositions.lineage(ARTIFACT).made_by[0].compositions


def test_a_composition_that_cannot_be_leaves_nothing(
    registry: Registry, register: Register
) -> None:
    """A taken or bad name or an unknown ingredient leaves no recipe and no composition."""
    digest = register("legal")
    with pytest.raises(NameTaken, match="one adapter"):
        _compose(registry, "legal", RECIPE, (digest, 1.0))
    with pytest.raises(NameInvalid):
        _compose(registry, "Mix", RECIPE, (digest, 1.0))
    with pytest.raises(UnknownReference):
        _compose(registry, "mix", RECIPE, ("0" * 64, 1.0))
    assert () == registry.compositions.lineage(digest).used_by
    assert () == registry.catalogue.compositions().items


def test_a_retired_composition_does_not_come_back(registry: Registry) -> None:
    """A retired recipe stays retired under its name."""
    _compose(registry, "mix", RECIPE)
    registry.versions.retire(parse_reference("mix@1"), "me")
    with pytest.raises(VersionRetired):
        _compose(registry, "mix", RECIPE)


def _save_another(registry: Registry) -> None:
    registry.compositions.save_recipe("text", SECOND, BASE, [])


def _compose_another(registry: Registry) -> None:
    _compose(registry, "mix", OTHER)


def _record_one(registry: Registry) -> None:
    _record(registry, OTHER, ARTIFACT)


@pytest.mark.parametrize(
    ("step", "swallowed"),
    [(_save_another, ""), (_compose_another, "pk_names"), (_record_one, "")],
)
def test_an_unforeseen_conflict_is_not_swallowed(
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    step: Callable[[Registry], None],
    swallowed: str,
) -> None:
    """A conflict is tolerated only if the row is stored already; any other is raised."""
    registry.compositions.save_recipe(f"text of {OTHER}", OTHER, BASE, [])
    _compose(registry, "mix", RECIPE)
    conflicts = [name for name in (swallowed, "something_else") if name]

    def fail(*rows: object) -> None:
        if isinstance(rows[1], RecipeRow) and swallowed:
            raise Conflict("pk_recipes")
        raise Conflict(conflicts.pop(0))

    for module in ("names", "compositions"):
        monkeypatch.setattr(f"registry.versions.{module}.insert", fail)
    with pytest.raises(Conflict, match="something_else"):
        step(registry)
