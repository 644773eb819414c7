"""Compositions, recipes, artifacts and lineage.

A recipe's text is opaque; its digest, base and ingredients are what its author says they are.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from registry.access import audit
from registry.callers import LOCAL, Caller
from registry.errors import UnknownBase, UnknownReference
from registry.paging import key_of, paged
from registry.references import check_digest, check_name
from registry.storage.columns import now
from registry.storage.database import Database, ReadSession, WriteSession
from registry.storage.errors import Conflict
from registry.storage.insert import insert
from registry.storage.models import (
    ArtifactRow,
    CompositionRow,
    CompositionVersionRow,
    RecipeIngredientRow,
    RecipeRow,
)
from registry.types import CompositionVersion, Lineage, RecipeRecord
from registry.versions import list_queries, queries, rows
from registry.versions.names import claim
from registry.versions.resolve import live


class Compositions:
    """Compositions, their recipes and the artifacts of these. Safe to share by threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        name: str,
        *,
        expression: str,
        recipe_text: str,
        recipe_digest: str,
        base: str,
        ingredients: Sequence[tuple[str, float]],
        actor: str,
    ) -> CompositionVersion:
        """Save a recipe (see `save_recipe`) and make it the newest version of a composition.

        A recipe that the name has already stays the version it is.

        Raises:
            NameInvalid: by the grammar of `registry.references`.
            NameTaken: the name is an adapter's or a base's.
            DigestInvalid, UnknownBase, UnknownReference, ValueError: as `save_recipe`.
            VersionRetired: the name had this recipe, and it was retired.
        """
        check_name(name)
        with self._database.transaction() as session:
            _save(session, recipe_text, recipe_digest, base, ingredients)
            row = _add_version(session, name, expression, recipe_digest, actor)
            return rows.composition_version(row)

    def save_recipe(
        self, text: str, digest: str, base: str, ingredients: Sequence[tuple[str, float]]
    ) -> None:
        """Store a recipe unless its digest is known.

        Ingredients are (digest, raw weight), in the recipe's order.

        Raises:
            DigestInvalid: a digest is malformed.
            UnknownBase: no base has exactly this name.
            UnknownReference: an ingredient is neither a version nor an artifact.
            ValueError: a weight is not finite.
        """
        with self._database.transaction() as session:
            _save(session, text, digest, base, ingredients)

    def artifact_of(self, recipe_digest: str) -> str | None:
        """Return the artifact that a recipe was first built into, or None; it may be gone."""
        with self._database.read() as session:
            recipe = queries.recipe(session, recipe_digest)
            return None if recipe is None else recipe.artifact

    def record_artifact(
        self,
        recipe_digest: str,
        artifact_digest: str,
        *,
        bytes: int,  # noqa: A002 - the name it has everywhere
        seconds: float,
        report: Mapping[str, Any],
        replacing: str | None = None,
    ) -> str:
        """Record what a saved recipe was built into; the first writer wins.

        With `replacing`, this artifact takes over from that one (whose files are gone for good)
        unless another writer already has.

        Returns:
            The recipe's artifact: `artifact_digest`, or that of the first writer.

        Raises:
            DigestInvalid: the artifact's digest is malformed.
            UnknownReference: the recipe was never saved.
        """
        check_digest(artifact_digest)
        with self._database.transaction() as session:
            recipe = queries.recipe(session, recipe_digest)
            if recipe is None:
                raise UnknownReference(recipe_digest)
            if recipe.artifact != replacing and recipe.artifact is not None:
                return recipe.artifact
            artifact = ArtifactRow(
                digest=artifact_digest,
                bytes=bytes,
                seconds=seconds,
                report=dict(report),
                created_at=now(),
            )
            try:
                insert(session, artifact)
            except Conflict as conflict:  # another recipe was built into the same files
                if conflict.constraint != "pk_artifacts":
                    raise
            return queries.claim_artifact(session, recipe_digest, artifact_digest, replacing)

    def lineage(
        self, digest: str, *, cursor: str | None = None, limit: int = 100, caller: Caller = LOCAL
    ) -> Lineage:
        """Return what a version or an artifact was made of, and a page of what was made of it.

        A recipe with an ingredient that is not visible to `caller` is left out.

        Raises:
            CursorInvalid: it is not one of this list's.
            DigestInvalid: `digest` is malformed.
            UnknownReference: it is neither a version's nor an artifact's.
        """
        check_digest(digest)
        after = key_of("lineage", cursor, str) or ""
        with self._database.read(caller) as session:
            if not queries.known_digests(session, [digest]):
                raise UnknownReference(digest)
            users = list_queries.recipes_using(session, digest, after, limit + 1)
            records = {record.digest: record for record in _records(session, users)}
            used_by = paged(
                "lineage", users, limit, lambda row: row.digest, lambda row: records[row.digest]
            )
            versions = list_queries.versions_with(session, [digest]).get(digest, ())
            return Lineage(
                digest, versions, makers(session, digest), used_by.items, used_by.next_cursor
            )


def _save(
    session: WriteSession,
    text: str,
    digest: str,
    base: str,
    ingredients: Sequence[tuple[str, float]],
) -> None:
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


def _add_version(
    session: WriteSession, name: str, expression: str, recipe_digest: str, actor: str
) -> CompositionVersionRow:
    """Make a saved recipe the newest version of a composition, or return the one that has it."""
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


def makers(session: ReadSession, artifact: str) -> tuple[RecipeRecord, ...]:
    """Return the recipes that were built into an artifact, oldest first."""
    return _records(session, list_queries.recipes_making(session, artifact))


def _records(session: ReadSession, found: Sequence[RecipeRow]) -> tuple[RecipeRecord, ...]:
    published = {version.name for recipe in found for version in recipe.published}
    names = queries.visible_names(session, published)
    ingredients = {item.digest for recipe in found for item in recipe.ingredients}
    versions = list_queries.versions_with(session, ingredients)
    return tuple(rows.recipe_record(recipe, names, versions) for recipe in found)
