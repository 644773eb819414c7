"""The rules of `registry.callers` as SQL predicates, for the caller that a session works for.

A digest is visible when a visible name has it. What was merged is visible when everything that it
was merged from is: so the check holds for expressions, compositions and bare digests alike.
Not covered: an artifact among a recipe's ingredients counts as invisible to all but those who see
everything.
"""

from typing import Any

from sqlalchemy import ColumnElement, exists, not_, or_, true
from sqlalchemy.orm import aliased

from registry.callers import LOCAL, Caller
from registry.storage.database import ReadSession
from registry.storage.models import AdapterVersionRow, NameRow, RecipeIngredientRow


def caller_of(session: ReadSession) -> Caller:
    """Return whom a session works for: see `Database.read`."""
    caller = session.info.get("caller", LOCAL)
    assert isinstance(caller, Caller)
    return caller


def name_visible(caller: Caller, name: Any) -> ColumnElement[bool]:
    """Return the predicate that the name in a column is visible to the caller."""
    if caller.namespace is None:
        return true()
    names = aliased(NameRow)
    public = exists().where(names.name == name, names.visibility == "public")
    return or_(name.startswith(f"{caller.namespace}/", autoescape=True), public)


def digest_visible(caller: Caller, digest: Any) -> ColumnElement[bool]:
    """Return the predicate that the digest in a column belongs to a version with such a name."""
    if caller.namespace is None:
        return true()
    version = aliased(AdapterVersionRow)
    return exists().where(version.digest == digest, name_visible(caller, version.name))


def recipe_visible(caller: Caller, recipe: Any) -> ColumnElement[bool]:
    """Return the predicate that the caller sees every ingredient of the recipe in a column."""
    if caller.namespace is None:
        return true()
    ingredient = aliased(RecipeIngredientRow)
    hidden = not_(digest_visible(caller, ingredient.digest))
    return not_(exists().where(ingredient.recipe_digest == recipe, hidden))
