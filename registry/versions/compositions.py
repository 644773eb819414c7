"""The rules of recipes, artifacts and lineage, inside a transaction that the service has begun.

A recipe's text is opaque; its digest, base and ingredients are what its author says they are.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from registry.access import audit
from registry.errors import UnknownBase, UnknownReference
from registry.paging import cursor_of, paged
from registry.references import check_digest
from registry.storage.columns import now
from registry.storage.database import ReadSession, WriteSession
from registry.storage.errors import Conflict
from registry.storage.insert import insert
from registry.storage.models import (
    ArtifactRow,
    CompositionRow,
    CompositionVersionRow,
    RecipeIngredientRow,
    RecipeRow,
)
from registry.types import Lineage, RecipeRecord
from registry.versions import list_queries, queries, rows
from registry.versions.names import claim
from registry.versions.resolve import live


def save(
    session: WriteSession,
    text: str,
    digest: str,
    base: str,
    ingredients: Sequence[tuple[str, float]],
) -> None:
    """Write a recipe down unless its digest is known; ingredients are (digest, weight), in order.

    Raises:
        DigestInvalid: a digest has not the form of one.
        UnknownBase: no base has exactly this name.
        UnknownReference: an ingredient is neither a version nor an artifact.
        ValueError: a weight is not finite.
    """
    _check_ingredients(session, digest, ingredients)
    if queries.base_shapes(session, base) is None:
        raise UnknownBase(base, [row.name for row in queries.bases(session)])
    recipe = RecipeRow(digest=digest, text=text, base=base, created_at=now())
    links = (
        RecipeIngredientRow(recipe_digest=digest, position=i, digest=ingredient, weight=weight)
        for i, (ingredient, weight) in enumerate(ingredients)
    )
    try:
        insert(session, recipe, *links)
    except Conflict as conflict:
        if conflict.constraint != "pk_recipes":
            raise


def _check_ingredients(
    session: WriteSession, recipe: str, ingredients: Sequence[tuple[str, float]]
) -> None:
    digests = [digest for digest, _ in ingredients]
    for digest in (recipe, *digests):
        check_digest(digest)
    for digest, weight in ingredients:
        if not math.isfinite(weight):
            raise ValueError(f"the weight of {digest} must be a finite number, not {weight}")
    known = queries.known_digests(session, digests)
    for digest in digests:
        if digest not in known:
            raise UnknownReference(digest)


def add_version(
    session: WriteSession, name: str, expression: str, recipe_digest: str, actor: str
) -> CompositionVersionRow:
    """Make a saved recipe the newest version of a composition, or return the one that has it.

    Raises:
        NameTaken: the name is an adapter's or a base's.
        VersionRetired: the name had this recipe, and it was retired.
    """
    claim(session, CompositionRow(name=name), actor)
    row = CompositionVersionRow(
        name=name,
        number=queries.next_number(session, CompositionVersionRow, name),
        expression=expression,
        recipe_digest=recipe_digest,
        created_at=now(),
        created_by=actor,
    )
    try:
        insert(session, row)
    except Conflict as conflict:
        if conflict.constraint != "uq_composition_versions_name_recipe_digest":
            raise
    else:
        subject, detail = f"{name}@{row.number}", {"expression": expression}
        audit.record(session, actor, "composition.added", subject, **detail)
    version = queries.version_by_content(session, CompositionVersionRow, name, recipe_digest)
    return live(version)


def record_artifact(
    session: WriteSession,
    recipe_digest: str,
    artifact_digest: str,
    size_bytes: int,
    seconds: float,
    report: Mapping[str, Any],
    replacing: str | None,
) -> str:
    """Write down what a recipe was built into; return the first such artifact, perhaps another.

    Raises:
        DigestInvalid: the artifact's digest has not the form of one.
        UnknownReference: the recipe was never saved.
    """
    check_digest(artifact_digest)
    recipe = queries.recipe(session, recipe_digest)
    if recipe is None:
        raise UnknownReference(recipe_digest)
    if recipe.artifact != replacing and recipe.artifact is not None:
        return recipe.artifact
    artifact = ArtifactRow(
        digest=artifact_digest,
        bytes=size_bytes,
        seconds=seconds,
        report=dict(report),
        created_at=now(),
    )
    try:
        insert(session, artifact)
    except Conflict as conflict:  # another recipe came out the same
        if conflict.constraint != "pk_artifacts":
            raise
    return queries.claim_artifact(session, recipe_digest, artifact_digest, replacing)


def lineage(session: ReadSession, digest: str, cursor: str | None, limit: int) -> Lineage:
    """Return the recipes that made a digest and a page of those that it went into.

    Raises:
        CursorInvalid: it is not one of this list's.
        DigestInvalid: it has not the form of a digest.
        UnknownReference: it is neither a version's nor an artifact's.
    """
    check_digest(digest)
    if not queries.known_digests(session, [digest]):
        raise UnknownReference(digest)
    after = cursor_of("lineage", cursor, str)
    found = list_queries.recipes_using(session, digest, str(after[0]) if after else "", limit + 1)
    records = {record.digest: record for record in _records(session, found)}
    used_by = paged(
        "lineage", found, limit, lambda row: (row.digest,), lambda row: records[row.digest]
    )
    versions = list_queries.versions_with(session, [digest]).get(digest, ())
    return Lineage(digest, versions, makers(session, digest), used_by.items, used_by.next_cursor)


def makers(session: ReadSession, artifact: str) -> tuple[RecipeRecord, ...]:
    """Return the recipes that an artifact came of, oldest first."""
    return _records(session, list_queries.recipes_making(session, artifact))


def _records(session: ReadSession, found: Sequence[RecipeRow]) -> tuple[RecipeRecord, ...]:
    published = {version.name for recipe in found for version in recipe.published}
    names = queries.visible_names(session, published)
    ingredients = {item.digest for recipe in found for item in recipe.ingredients}
    versions = list_queries.versions_with(session, ingredients)
    return tuple(rows.recipe_record(recipe, names, versions) for recipe in found)
