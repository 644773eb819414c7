"""Compositions, recipes, artifacts and lineage.

The registry does not interpret the text of a recipe. The author of the recipe supplies its digest,
base and ingredients.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.access import audit, policies
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
    RecipeRow,
)
from registry.types import CompositionVersion, Lineage, RecipeRecord
from registry.versions import lineage_queries, list_queries, queries, rows
from registry.versions.names import claim
from registry.versions.resolve import live, whole_digest

_SHORT = 12  # digits of a digest in a message


@dataclass(frozen=True, slots=True)
class NewRecipe:
    """A recipe to save; the order of its (digest, raw weight) is that of the recipe."""

    text: str
    base: str
    ingredients: Sequence[tuple[str, float]]


class Compositions:
    """Compositions, their recipes and artifacts. Threads may share one instance."""

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

        If a version of the name has the same recipe, that version is returned.

        Raises:
            NameInvalid: the name violates the grammar of `registry.references`.
            NameTaken: the name belongs to an adapter or a base.
            DigestInvalid, UnknownBase, UnknownReference, ValueError: see `save_recipe`.
            VersionRetired: the version of the name that has this recipe is retired.
        """
        check_name(name)
        with self._database.transaction() as session:
            _save(session, recipe_text, recipe_digest, base, ingredients)
            row = _add_version(session, name, expression, recipe_digest, actor)
            return rows.composition_version(row)

    def save_recipe(
        self, text: str, digest: str, base: str, ingredients: Sequence[tuple[str, float]]
    ) -> None:
        """Store a recipe unless a recipe with its digest is stored.

        Each ingredient is (digest, raw weight); the order is that of the recipe.

        Raises:
            DigestInvalid: a digest is malformed.
            UnknownBase: no base has exactly this name.
            UnknownReference: an ingredient is not the digest of a version or an artifact.
            CompositionDenied: a policy denies the recipe.
            ValueError: a weight is not finite.
        """
        with self._database.transaction() as session:
            _save(session, text, digest, base, ingredients)

    def artifact_of(self, recipe_digest: str) -> str | None:
        """Return the artifact of a recipe, or None; the files of the artifact may be removed."""
        with self._database.read() as session:
            recipe = queries.recipe(session, recipe_digest)
            return None if recipe is None else recipe.artifact

    def record_artifact(
        self,
        recipe_digest: str,
        artifact_digest: str,
        *,
        bytes: int,  # noqa: A002 - the column has this name
        seconds: float,
        report: Mapping[str, Any],
        recipe: NewRecipe | None = None,
        replacing: str | None = None,
    ) -> str:
        """Record the artifact of a recipe; the first writer wins.

        The recipe is saved already, or `recipe` is saved in the same transaction (see
        `save_recipe`).

        If the recipe still has the artifact `replacing`, whose files are permanently lost, the new
        artifact replaces it.

        Returns:
            The digest of the recipe's artifact: `artifact_digest`, or that of the first writer.

        Raises:
            DigestInvalid: the artifact's digest is malformed.
            UnknownReference: the recipe is not saved.
            as `save_recipe`, if there is a recipe to save.
        """
        check_digest(artifact_digest)
        with self._database.transaction() as session:
            if recipe is not None:
                _save(session, recipe.text, recipe_digest, recipe.base, recipe.ingredients)
            saved = queries.recipe(session, recipe_digest)
            if saved is None:
                raise UnknownReference(recipe_digest)
            if saved.artifact != replacing and saved.artifact is not None:
                return saved.artifact
            artifact = ArtifactRow(
                digest=artifact_digest,
                bytes=bytes,
                seconds=seconds,
                report=dict(report),
                created_at=now(),
            )
            try:
                insert(session, artifact)
            except Conflict as conflict:  # another recipe produced the same files
                if conflict.constraint != "pk_artifacts":
                    raise
            sources = lineage_queries.ingredients(session, recipe_digest)
            lineage_queries.add_sources(session, artifact_digest, sources)
            return queries.claim_artifact(session, recipe_digest, artifact_digest, replacing)

    def licences(self, digests: Iterable[str]) -> Mapping[str, str | None]:
        """Return the licence of each of these contents, or None if no version of it states one."""
        with self._database.read() as session:
            return lineage_queries.licences(session, digests)

    def lineage(
        self, digest: str, *, cursor: str | None = None, limit: int = 100, caller: Caller = LOCAL
    ) -> Lineage:
        """Return the recipes that produced a digest, and a page of the recipes that use it.

        The first 12 or more digits of the digest are enough. Recipes with an ingredient that is not
        visible to `caller` are omitted.

        Raises:
            CursorInvalid: the cursor does not belong to this list.
            DigestInvalid: `digest` is malformed.
            ReferenceInvalid: several digests begin with `digest`.
            UnknownReference: no visible version or artifact has this digest.
        """
        after = key_of("lineage", cursor, str) or ""
        with self._database.read(caller) as session:
            digest = whole_digest(session, digest)
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
    if not queries.has_base(session, base):
        raise UnknownBase(base, [row.name for row in queries.bases(session)])
    try:
        insert(session, RecipeRow(digest=digest, text=text, base=base, created_at=now()))
    except Conflict as conflict:
        if conflict.constraint != "pk_recipes":
            raise
    else:
        queries.add_ingredients(session, digest, ingredients)


def _check_ingredients(
    session: WriteSession, recipe: str, ingredients: Sequence[tuple[str, float]]
) -> None:
    digests = [digest for digest, _ in ingredients]
    for digest in (recipe, *digests):
        check_digest(digest)
    for digest, weight in ingredients:
        if not math.isfinite(weight):
            raise ValueError(f"the weight of {digest} must be a finite number, not {weight}")
    visible = queries.known_digests(session, digests)
    for digest in digests:
        if digest not in visible:
            raise UnknownReference(digest)
    policies.check_merge(session, {digest: digest[:_SHORT] for digest in digests})


def _add_version(
    session: WriteSession, name: str, expression: str, recipe_digest: str, actor: str
) -> CompositionVersionRow:
    """Return the version of a composition with this recipe, which is added if it is new."""
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
        queries.advance_revision(session)  # the list of models changes
    version = queries.version_by_content(session, CompositionVersionRow, name, recipe_digest)
    return live(version)


def makers(session: ReadSession, artifact: str) -> tuple[RecipeRecord, ...]:
    """Return the recipes that produced an artifact, oldest first."""
    return _records(session, list_queries.recipes_making(session, artifact))


def _records(session: ReadSession, recipes: Sequence[RecipeRow]) -> tuple[RecipeRecord, ...]:
    published = {version.name for recipe in recipes for version in recipe.published}
    names = queries.visible_names(session, published)
    ingredients = {item.digest for recipe in recipes for item in recipe.ingredients}
    versions = list_queries.versions_with(session, ingredients)
    return tuple(rows.recipe_record(recipe, names, versions) for recipe in recipes)
