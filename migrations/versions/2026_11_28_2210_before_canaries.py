"""Results of canaries: how artifacts answer an operator's prompts.

Revision: 2026_11_28_2210, after 2026_11_28_2200.
"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_28_2210"
down_revision = "2026_11_28_2200"
branch_labels = None
depends_on = None

_SHA256 = sa.String(64)


def upgrade() -> None:
    op.create_table(
        "canaries",
        sa.Column("artifact", _SHA256, nullable=False),
        sa.Column("prompts", _SHA256, nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("failures", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact"], ["artifacts.digest"], "fk_canaries_artifact_artifacts"
        ),
        sa.PrimaryKeyConstraint("artifact", "prompts", name="pk_canaries"),
    )


def downgrade() -> None:
    op.drop_table("canaries")
