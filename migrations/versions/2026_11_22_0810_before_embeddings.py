"""What adapters are found by: embeddings, tags, examples, and the revision that counts changes.

Revision: 2026_11_22_0810, after 2026_11_22_0800.

On PostgreSQL the `vector` extension is needed. Where this role may not create it, an administrator
does so once: CREATE EXTENSION vector.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import UserDefinedType

revision = "2026_11_22_0810"
down_revision = "2026_11_22_0800"
branch_labels = None
depends_on = None

_NAME = sa.String(200)
# What HNSW indexes are made for; other dims work too, by a scan.
_INDEXED = (("weights", 2000), ("text", 384), ("text", 768), ("text", 1024), ("behaviour", 768))


class _Vector(UserDefinedType[object]):
    def get_col_spec(self, **_: object) -> str:
        return "VECTOR"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SET LOCAL lock_timeout = '5s'")
        op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    _create_tags_and_examples()
    _create_embeddings()
    revisions = op.create_table(
        "revision",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", op.f("ck_revision_one")),
        sa.PrimaryKeyConstraint("id", name="pk_revision"),
    )
    op.bulk_insert(revisions, [{"id": 1, "number": 0}])


def downgrade() -> None:
    # The extension stays: others may use it.
    for table in ("revision", "embeddings", "adapter_examples", "adapter_tags"):
        op.drop_table(table)


def _create_tags_and_examples() -> None:
    op.create_table(
        "adapter_tags",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("tag", sa.String(60), nullable=False),
        sa.ForeignKeyConstraint(["name"], ["adapters.name"], "fk_adapter_tags_name_adapters"),
        sa.PrimaryKeyConstraint("name", "tag", name="pk_adapter_tags"),
    )
    op.create_index("ix_adapter_tags_tag", "adapter_tags", ["tag"])
    op.create_table(
        "adapter_examples",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["name"], ["adapters.name"], "fk_adapter_examples_name_adapters"),
        sa.PrimaryKeyConstraint("name", "position", name="pk_adapter_examples"),
    )


def _create_embeddings() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    op.create_table(
        "embeddings",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("encoder", sa.String(300), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("vector", _Vector() if postgresql else sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('behaviour', 'text', 'weights')", op.f("ck_embeddings_kind")),
        sa.CheckConstraint("dim >= 1", op.f("ck_embeddings_dim")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["adapter_versions.id"], "fk_embeddings_version_id_adapter_versions"
        ),
        sa.PrimaryKeyConstraint("version_id", "kind", "encoder", name="pk_embeddings"),
    )
    columns = ["kind", "encoder", "revision"]
    op.create_index("ix_embeddings_kind_encoder_revision", "embeddings", columns)
    for kind, dim in _INDEXED if postgresql else ():
        op.execute(
            f"CREATE INDEX ix_embeddings_{kind}_{dim} ON embeddings "
            f"USING hnsw ((vector::vector({dim})) vector_ip_ops) "
            f"WHERE kind = '{kind}' AND dim = {dim}"
        )
