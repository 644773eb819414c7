"""The rules of `registry.callers` as SQL predicates for the caller of a session.

A version is visible if its name is, and if all contents that it was made of are: what a merge was
made of shows in its answers. A namespace may show others what it made of its own adapters, so a
version of its own counts as visible there. A digest is visible if a visible version has it. A
recipe is visible if all its ingredients are visible; this rule applies to expressions, compositions
and digests. A recipe with an artifact as an ingredient is visible only to callers with rights to
all namespaces.
"""

from typing import Any

from sqlalchemy import ColumnElement, and_, exists, not_, or_, true
from sqlalchemy.orm import aliased

from registry.callers import LOCAL, Caller
from registry.storage.columns import NamespaceOf
from registry.storage.database import ReadSession
from registry.storage.models import AdapterVersionRow, LineageRow, NameRow, RecipeIngredientRow


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


def version_visible(caller: Caller, name: Any, digest: Any) -> ColumnElement[bool]:
    """Return the predicate that is true if the version with this name and digest is visible."""
    if caller.namespace is None:
        return true()
    source, version = aliased(LineageRow), aliased(AdapterVersionRow)
    own = and_(NamespaceOf(version.name) != "", NamespaceOf(version.name) == NamespaceOf(name))
    visible = or_(name_visible(caller, version.name), own)
    # `name` may be of a statement two levels above, which SQLAlchemy does not look for by itself.
    seen = exists().where(version.digest == source.ancestor, visible).correlate_except(version)
    hidden = exists().where(source.digest == digest, not_(seen)).correlate_except(source)
    return and_(name_visible(caller, name), not_(hidden))


def digest_visible(caller: Caller, digest: Any) -> ColumnElement[bool]:
    """Return the predicate that is true if the digest in a column is visible to the caller."""
    if caller.namespace is None:
        return true()
    version = aliased(AdapterVersionRow)
    seen = version_visible(caller, version.name, version.digest)
    return exists().where(version.digest == digest, seen)


def recipe_visible(caller: Caller, recipe: Any) -> ColumnElement[bool]:
    """Return the predicate that is true if the recipe in a column is visible to the caller."""
    if caller.namespace is None:
        return true()
    ingredient = aliased(RecipeIngredientRow)
    hidden = not_(digest_visible(caller, ingredient.digest))
    return not_(exists().where(ingredient.recipe_digest == recipe, hidden))
