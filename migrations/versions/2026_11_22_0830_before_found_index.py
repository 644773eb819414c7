"""An index over what decides whether a version is found, so that no whole row has to be read.

Revision: 2026_11_22_0830, after 2026_11_22_0820.

A version's modules and report are 60 KB and stand before its status: SQLite reads through all of it
to say what is in use.
"""

from alembic import op

revision = "2026_11_22_0830"
down_revision = "2026_11_22_0820"
branch_labels = None
depends_on = None

_INDEX = "ix_adapter_versions_found"
_COLUMNS = ["name", "number", "status", "retired_at", "base", "rank", "created_at"]


def upgrade() -> None:
    op.create_index(_INDEX, "adapter_versions", _COLUMNS)


def downgrade() -> None:
    op.drop_index(_INDEX, "adapter_versions")
