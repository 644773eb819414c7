"""Versions keep the release of PEFT, the dropout and the chat template they were trained with.

Revision: 2026_11_28_1700, after 2026_11_25_0900.

SQLite copies the tables, so that their DDL is the one that the models give.
"""

from typing import Literal

import sqlalchemy as sa
from alembic import op

revision = "2026_11_28_1700"
down_revision = "2026_11_25_0900"
branch_labels = None
depends_on = None

_SHA256 = sa.String(64)


def _recreate() -> Literal["always", "never"]:
    return "always" if op.get_bind().dialect.name == "sqlite" else "never"


def upgrade() -> None:
    with op.batch_alter_table("adapter_versions", recreate=_recreate()) as table:
        table.add_column(sa.Column("peft_version", sa.Text(), nullable=True))
        table.add_column(sa.Column("lora_dropout", sa.Double(), nullable=True))
        table.add_column(sa.Column("chat_template", _SHA256, nullable=True))
    with op.batch_alter_table("bases", recreate=_recreate()) as table:
        table.add_column(sa.Column("chat_template", _SHA256, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("bases", recreate=_recreate()) as table:
        table.drop_column("chat_template")
    with op.batch_alter_table("adapter_versions", recreate=_recreate()) as table:
        for name in ("chat_template", "lora_dropout", "peft_version"):
            table.drop_column(name)
