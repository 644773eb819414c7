"""The rules of `registry.callers` as SQL predicates for the caller of a session.

A digest is visible if a version of a visible name has it. A recipe is visible if all its
ingredients are visible; this rule applies to expressions, compositions and digests. A recipe with
an artifact as an ingredient is visible only to callers with rights to all namespaces.
"""

from typing import Any

from sqlalchemy import ColumnElement, exists, not_, or_, true
from sqlalchemy.orm import aliased

from registry.callers import LOCAL, Caller
from registry.storage.database import ReadSession
from registry.storage.models import AdapterVersionRow, NameRow, RecipeIngredientRow


def caller_of(session: ReadSession) -> Caller:
    """Return the caller of a session; see `Database.read`."""
    caller = session.info.get("caller", LOCAL)
    assert isinstance(caller, Caller)
    return caller


def name_visible(caller: Caller, name: Any) -> ColumnElement[bool]:
    """Return the predicate that is true if the name in a column is visible to the caller."""
    if caller.namespace is None:
        return true()
    names = aliased(NameRow)
    public = exists().where(names.name == name, names.visibility == "public")
    return or_(name.startswith(f"{caller.namespace}/", autoescape=True), public)


def digest_visible(caller: Caller, digest: Any) -> ColumnElement[bool]:
    """Return the predicate that is true if the digest in a column is visible to the caller."""
    if caller.namespace is None:
        return true()
    version = aliased(AdapterVersionRow)
    return exists().where(version.digest == digest, name_visible(caller, version.name))


def recipe_visible(caller: Caller, recipe: Any) -> ColumnElement[bool]:
    """Return the predicate that is true if the recipe in a column is visible to the caller."""
    if caller.namespace is None:
        return true()
    ingredient = aliased(RecipeIngredientRow)
    hidden = not_(digest_visible(caller, ingredient.digest))
    return not_(exists().where(ingredient.recipe_digest == recipe, hidden))
