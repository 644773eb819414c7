"""The lineage of each content, so that a quarantine reaches all that was made of it.

Revision: 2026_11_28_2130, after 2026_11_28_2100.

Lineage is filled from the recipes whose artifacts are recorded.
"""

from collections import defaultdict

import sqlalchemy as sa
from alembic import op

revision = "2026_11_28_2130"
down_revision = "2026_11_28_2100"
branch_labels = None
depends_on = None

_DIGEST = sa.String(64)
_MADE = """
    SELECT DISTINCT recipes.artifact, recipe_ingredients.digest FROM recipes
    JOIN recipe_ingredients ON recipe_ingredients.recipe_digest = recipes.digest
    WHERE recipes.artifact IS NOT NULL
"""


def upgrade() -> None:
    op.create_table(
        "lineage",
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("ancestor", _DIGEST, nullable=False),
        sa.PrimaryKeyConstraint("digest", "ancestor", name="pk_lineage"),
    )
    _fill()
    op.create_index("ix_lineage_ancestor", "lineage", ["ancestor"])
    # Partial: an index with every version would be taken for reading those in use, row by row.
    quarantined = sa.text("status = 'quarantined'")
    op.create_index(
        "ix_adapter_versions_quarantined", "adapter_versions", ["digest"],
        sqlite_where=quarantined, postgresql_where=quarantined,
    )  # fmt: skip


def downgrade() -> None:
    op.drop_index("ix_adapter_versions_quarantined", "adapter_versions")
    op.drop_table("lineage")


def _fill() -> None:
    parents: defaultdict[str, set[str]] = defaultdict(set)
    for artifact, ingredient in op.get_bind().execute(sa.text(_MADE)):
        parents[artifact].add(ingredient)
    table = sa.table("lineage", sa.column("digest"), sa.column("ancestor"))
    for digest in sorted(parents):
        rows = [{"digest": digest, "ancestor": name} for name in _above(digest, parents)]
        if rows:
            op.bulk_insert(table, rows)


def _above(digest: str, parents: dict[str, set[str]]) -> list[str]:
    """Return all contents that a content was made of, directly or not."""
    above: set[str] = set()
    waiting = [digest]
    while waiting:
        new = parents.get(waiting.pop(), set()) - above
        above |= new
        waiting.extend(new)
    return sorted(above - {digest})
