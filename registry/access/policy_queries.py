"""The queries for policies. They see every name and content, for every caller.

Reading functions take a `ReadSession`, writing functions a `WriteSession`, and none of them
commits.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, select

from registry.storage.database import ReadSession, WriteSession
from registry.storage.models import (
    AdapterTagRow,
    AdapterVersionRow,
    LineageRow,
    RecipeIngredientRow,
)
from registry.storage.policy_models import PolicyRow


def policies(session: ReadSession) -> Sequence[PolicyRow]:
    """Return all rules, oldest first."""
    return session.scalars(select(PolicyRow).order_by(PolicyRow.id)).all()


def policy(session: ReadSession, number: int) -> PolicyRow | None:
    """Return a rule, or None."""
    return session.get(PolicyRow, number)


def remove_policy(session: WriteSession, number: int) -> None:
    """Remove a rule."""
    session.execute(delete(PolicyRow).where(PolicyRow.id == number))


def ingredients(session: ReadSession, recipe: str) -> Sequence[str]:
    """Return the digests of a recipe's ingredients, in order."""
    row = RecipeIngredientRow
    query = select(row.digest).where(row.recipe_digest == recipe).order_by(row.position)
    return session.scalars(query).all()


def sources(session: ReadSession, digests: Iterable[str]) -> dict[str, set[str]]:
    """Return each content with all contents that it was made of, itself included."""
    digests, row = list(digests), LineageRow
    closure = {digest: {digest} for digest in digests}
    query = select(row.digest, row.ancestor).where(row.digest.in_(digests))
    for content, source in session.execute(query):
        closure[content].add(source)
    return closure


def names_and_tags(
    session: ReadSession, digests: Iterable[str]
) -> Sequence[tuple[str, str, str | None]]:
    """Return (digest, name, tag) of every version with one of these contents."""
    version, tag = AdapterVersionRow, AdapterTagRow
    query = select(version.digest, version.name, tag.tag)
    query = query.join(tag, tag.name == version.name, isouter=True)
    rows = session.execute(query.where(version.digest.in_(list(digests))))
    return [(digest, name, word) for digest, name, word in rows]
