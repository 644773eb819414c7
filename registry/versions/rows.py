"""Values out of rows: what `registry.versions.queries` returns, as `registry.types` has it.

Not covered: which rows (`registry.service`).
"""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from registry.storage.models import (
    AdapterVersionRow,
    AliasMoveRow,
    AliasRow,
    BaseRow,
    CompositionVersionRow,
    RecipeRow,
)
from registry.types import (
    AdapterSummary,
    AdapterVersion,
    Alias,
    AliasMove,
    Base,
    CompositionSummary,
    CompositionVersion,
    Ingredient,
    ModuleFacts,
    RecipeRecord,
    ResolvedAdapter,
    ResolvedComposition,
    Visibility,
)
from registry.versions.queries import VersionRow


def base(row: BaseRow) -> Base:
    """Return a base; its aliases must be loaded."""
    shapes = {name: (d_out, d_in) for name, (d_out, d_in) in row.shapes.items()}
    return Base(row.name, row.architecture, shapes, frozenset(alias.key for alias in row.aliases))


def modules(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, ModuleFacts]:
    """Return the modules of a version from their JSON."""
    return {name: ModuleFacts(**facts) for name, facts in stored.items()}


def adapter_version(row: AdapterVersionRow) -> AdapterVersion:
    """Return a version with everything that is known of it."""
    return AdapterVersion(
        name=row.name,
        number=row.number,
        digest=row.digest,
        base=row.base,
        base_said=row.base_said,
        rank=row.rank,
        modules=modules(row.modules),
        use_rslora=row.use_rslora,
        dtypes=tuple(row.dtypes),
        bytes=row.bytes,
        norm=row.norm,
        source=row.source,
        licence=row.licence,
        status=row.status,
        status_reason=row.status_reason,
        card=row.card,
        report=row.report,
        created_at=row.created_at,
        created_by=row.created_by,
        retired_at=row.retired_at,
    )


def composition_version(row: CompositionVersionRow) -> CompositionVersion:
    """Return a composition's version; its recipe must be loaded."""
    return CompositionVersion(
        name=row.name,
        number=row.number,
        expression=row.expression,
        recipe_text=row.recipe.text,
        recipe_digest=row.recipe_digest,
        base=row.recipe.base,
        created_at=row.created_at,
        created_by=row.created_by,
        retired_at=row.retired_at,
    )


def adapter_summary(
    row: AdapterVersionRow,
    visibility: Visibility,
    tags: Iterable[str],
    aliases: Mapping[str, int],
) -> AdapterSummary:
    """Return the line of a list that shows an adapter by this version."""
    return AdapterSummary(
        name=row.name,
        visibility=visibility,
        tags=tuple(tags),
        aliases=aliases,
        number=row.number,
        digest=row.digest,
        base=row.base,
        rank=row.rank,
        bytes=row.bytes,
        norm=row.norm,
        status=row.status,
        created_at=row.created_at,
    )


def composition_summary(
    row: CompositionVersionRow, visibility: Visibility, aliases: Mapping[str, int]
) -> CompositionSummary:
    """Return the line of a list that shows a composition by this version."""
    return CompositionSummary(
        name=row.name,
        visibility=visibility,
        aliases=aliases,
        number=row.number,
        expression=row.expression,
        recipe_digest=row.recipe_digest,
        base=row.recipe.base,
        created_at=row.created_at,
    )


def resolved(row: VersionRow) -> ResolvedAdapter | ResolvedComposition:
    """Return what a reference to this version means."""
    if isinstance(row, AdapterVersionRow):
        return ResolvedAdapter(
            row.name, row.number, row.digest, row.base, row.rank, modules(row.modules)
        )
    recipe = row.recipe
    return ResolvedComposition(
        row.name, row.number, row.expression, recipe.text, recipe.digest, recipe.base
    )


def alias(row: AliasRow) -> Alias:
    """Return where an alias points."""
    return Alias(row.alias, row.number, row.moved_at, row.moved_by)


def alias_move(row: AliasMoveRow) -> AliasMove:
    """Return one entry of an alias's history."""
    return AliasMove(row.alias, row.from_number, row.to_number, row.moved_at, row.moved_by)


def recipe_record(
    row: RecipeRow, names: Container[str], versions: Mapping[str, tuple[str, ...]]
) -> RecipeRecord:
    """Return a recipe as lineage shows it; its ingredients and compositions must be loaded.

    Args:
        row: the recipe.
        names: of the compositions to show.
        versions: to show, by digest.
    """
    return RecipeRecord(
        digest=row.digest,
        text=row.text,
        base=row.base,
        artifact=row.artifact,
        ingredients=tuple(
            Ingredient(i.digest, i.weight, versions.get(i.digest, ())) for i in row.ingredients
        ),
        compositions=tuple(f"{v.name}@{v.number}" for v in row.published if v.name in names),
    )
