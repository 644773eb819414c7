"""Who may see and do what, what was measured, and who changed what.

Revision: 2026_11_22_0820, after 2026_11_22_0810.

Names without a namespace are public, as they were; names in a namespace become private to it.
"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_0820"
down_revision = "2026_11_22_0810"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_NAME = sa.String(200)


def upgrade() -> None:
    _add_visibility()
    _create_api_keys()
    _create_evaluations()
    _create_audit()


def downgrade() -> None:
    for name in ("audit", "evaluations", "api_keys"):
        op.drop_table(name)
    with op.batch_alter_table("names") as table:
        # SQLite's copy of the table would take the constraints along.
        table.drop_constraint(op.f("ck_names_visibility"), type_="check")
        table.drop_constraint(op.f("ck_names_root"), type_="check")
        table.drop_column("visibility")


def _add_visibility() -> None:
    column = sa.Column("visibility", sa.String(20), server_default="private", nullable=False)
    op.add_column("names", column)
    op.execute("UPDATE names SET visibility = 'public' WHERE kind = 'base' OR name NOT LIKE '%/%'")
    with op.batch_alter_table("names") as table:
        table.create_check_constraint(
            op.f("ck_names_visibility"), "visibility IN ('private', 'public')"
        )
        table.create_check_constraint(
            op.f("ck_names_root"), "visibility = 'public' OR name LIKE '%/%'"
        )


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("prefix", sa.String(20), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("namespace", _NAME, nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("last_used_at", _MOMENT, nullable=True),
        sa.Column("revoked_at", _MOMENT, nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "role IN ('read', 'chat', 'publish', 'admin')", op.f("ck_api_keys_role")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("name", name="uq_api_keys_name"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
    )


def _create_evaluations() -> None:
    op.create_table(
        "evaluations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("dataset", _NAME, nullable=False),
        sa.Column("metric", _NAME, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=True),
        sa.Column("measured_at", _MOMENT, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["name"], ["names.name"], "fk_evaluations_name_names"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
    )
    op.create_index("ix_evaluations_name_number", "evaluations", ["name", "number"])


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(60), nullable=False),
        sa.Column("subject", sa.String(300), nullable=False),
        sa.Column("namespace", _NAME, nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_subject", "audit", ["subject"])
    op.create_index("ix_audit_namespace", "audit", ["namespace"])
