"""Conversion of rows of bases, versions and recipes to the values of `registry.types`."""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from registry.storage.models import (
    AdapterVersionRow,
    BaseRow,
    CompositionVersionRow,
    RecipeRow,
)
from registry.storage.values import value_of
from registry.types import (
    AdapterSummary,
    AdapterVersion,
    Base,
    CompositionSummary,
    CompositionVersion,
    Ingredient,
    ModuleFacts,
    RecipeRecord,
    ResolvedAdapter,
    ResolvedComposition,
    ShownStatus,
    Visibility,
)
from registry.versions.queries import VersionRow


def base(row: BaseRow) -> Base:
    """Return a base. The aliases of the row must be loaded."""
    shapes = {name: (d_out, d_in) for name, (d_out, d_in) in row.shapes.items()}
    return value_of(Base, row, shapes=shapes, keys=frozenset(alias.key for alias in row.aliases))


def modules(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, ModuleFacts]:
    """Return the modules of a version from the stored JSON."""
    return {name: ModuleFacts(**facts) for name, facts in stored.items()}


def adapter_version(row: AdapterVersionRow) -> AdapterVersion:
    """Return a version with all its fields."""
    return value_of(
        AdapterVersion,
        row,
        modules=modules(row.modules),
        dtypes=tuple(row.dtypes),
        status=shown_status(row),
    )


def shown_status(row: AdapterVersionRow) -> ShownStatus:
    """Return the status to show for a version: "retired" replaces the stored status."""
    return row.status if row.retired_at is None else "retired"


def composition_version(row: CompositionVersionRow) -> CompositionVersion:
    """Return a composition's version. The recipe of the row must be loaded."""
    return value_of(CompositionVersion, row, recipe_text=row.recipe.text, base=row.recipe.base)


def adapter_summary(
    row: AdapterVersionRow,
    visibility: Visibility,
    tags: Iterable[str],
    aliases: Mapping[str, int],
) -> AdapterSummary:
    """Return the summary of an adapter with this version."""
    return value_of(
        AdapterSummary,
        row,
        visibility=visibility,
        tags=tuple(tags),
        aliases=aliases,
        status=shown_status(row),
    )


def composition_summary(
    row: CompositionVersionRow, visibility: Visibility, aliases: Mapping[str, int]
) -> CompositionSummary:
    """Return the summary of a composition with this version."""
    return value_of(
        CompositionSummary, row, visibility=visibility, aliases=aliases, base=row.recipe.base
    )


def resolved(row: VersionRow) -> ResolvedAdapter | ResolvedComposition:
    """Return the resolution of a reference to this version."""
    if isinstance(row, AdapterVersionRow):
        return value_of(ResolvedAdapter, row, modules=modules(row.modules))
    return value_of(ResolvedComposition, row, recipe_text=row.recipe.text, base=row.recipe.base)


def recipe_record(
    row: RecipeRow, names: Container[str], versions: Mapping[str, tuple[str, ...]]
) -> RecipeRecord:
    """Return a recipe for a lineage.

    Args:
        row: the recipe, with its ingredients and compositions loaded.
        names: the names of the compositions to show.
        versions: the versions to show for each digest.
    """
    return value_of(
        RecipeRecord,
        row,
        ingredients=tuple(
            Ingredient(i.digest, i.weight, versions.get(i.digest, ())) for i in row.ingredients
        ),
        compositions=tuple(f"{v.name}@{v.number}" for v in row.published if v.name in names),
    )
