"""Versions may be quarantined, and imports from the Hub are remembered.

Revision: 2026_11_22_0800, after 2026_11_22_0600.
"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_0800"
down_revision = "2026_11_22_0600"
branch_labels = None
depends_on = None

_DIGEST = sa.String(64)
_STATUS = "status IN ('admitted', 'quarantined')"


def upgrade() -> None:
    with op.batch_alter_table("adapter_versions") as table:
        table.add_column(
            sa.Column("status", sa.String(20), server_default="admitted", nullable=False)
        )
        table.add_column(sa.Column("status_reason", sa.Text(), nullable=True))
        table.create_check_constraint(op.f("ck_adapter_versions_status"), _STATUS)
    op.create_table(
        "imports",
        sa.Column("source", sa.String(500), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("conditions", _DIGEST, nullable=False),
        sa.Column("digest", _DIGEST, nullable=True),
        sa.Column("problems", sa.JSON(), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("source", "name", name="pk_imports"),
    )


def downgrade() -> None:
    op.drop_table("imports")
    with op.batch_alter_table("adapter_versions") as table:
        # SQLite's copy of the table would take the constraint along.
        table.drop_constraint(op.f("ck_adapter_versions_status"), type_="check")
        table.drop_column("status_reason")
        table.drop_column("status")
