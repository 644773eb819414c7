"""Keys have a scope and limits; usage is counted by key; the registry keeps secrets.

Revision: 2026_11_28_2200, after 2026_11_28_2140.

A key without a namespace had rights to all of them, and keeps them. SQLite copies the table, so
that its DDL is the one that the models give.
"""

from typing import Literal

import sqlalchemy as sa
from alembic import op

revision = "2026_11_28_2200"
down_revision = "2026_11_28_2140"
branch_labels = None
depends_on = None

_NAME = sa.String(200)


def _recreate() -> Literal["always", "never"]:
    return "always" if op.get_bind().dialect.name == "sqlite" else "never"


def _counts() -> list[sa.Column[int]]:
    whole = ("requests", "prompt_tokens", "completion_tokens", "compositions")
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in whole]


def upgrade() -> None:
    scope: sa.Column[bool] = sa.Column(
        "all_namespaces", sa.Boolean(), server_default=sa.false(), nullable=False
    )
    with op.batch_alter_table("api_keys", recreate=_recreate()) as table:
        table.add_column(scope)
        table.add_column(sa.Column("limits", sa.JSON(), nullable=True))
        table.add_column(sa.Column("revision", sa.Integer(), server_default="1", nullable=False))
        table.create_check_constraint(
            op.f("ck_api_keys_scope"), "namespace IS NULL OR NOT all_namespaces"
        )
    op.execute("UPDATE api_keys SET all_namespaces = (namespace IS NULL)")
    op.create_table(
        "usage_days",
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("key", _NAME, nullable=False),
        sa.Column("namespace", _NAME, nullable=True),
        *_counts(),
        sa.Column("build_seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("day", "key", name="pk_usage_days"),
    )
    op.create_table(
        "usage_minutes",
        sa.Column("minute", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", _NAME, nullable=False),
        *_counts(),
        sa.Column("build_seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "key", name="pk_usage_minutes"),
    )
    op.create_table(
        "secrets",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secrets"),
    )


def downgrade() -> None:
    for name in ("secrets", "usage_minutes", "usage_days"):
        op.drop_table(name)
    with op.batch_alter_table("api_keys", recreate=_recreate()) as table:
        table.drop_constraint(op.f("ck_api_keys_scope"), type_="check")
        for name in ("revision", "limits", "all_namespaces"):
            table.drop_column(name)
