"""Rules on compositions: which adapters may be merged with which.

Revision: 2026_11_28_2140, after 2026_11_28_2130.
"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_28_2140"
down_revision = "2026_11_28_2130"
branch_labels = None
depends_on = None

_SELECTOR = sa.String(220)


def upgrade() -> None:
    op.create_table(
        "policies",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("first", _SELECTOR, nullable=False),
        sa.Column("second", _SELECTOR, nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint("action IN ('allow', 'deny')", op.f("ck_policies_action")),
        sa.PrimaryKeyConstraint("id", name="pk_policies"),
    )


def downgrade() -> None:
    op.drop_table("policies")
