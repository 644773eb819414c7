"""The first schema: names, bases, adapters, aliases, recipes, artifacts, compositions.

Revision: 2026_11_22_0600, after nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_0600"
down_revision = None
branch_labels = None
depends_on = None

_DIGEST = sa.String(64)
_MOMENT = sa.DateTime(timezone=True)
_NAME = sa.String(200)


def upgrade() -> None:
    _create_names()
    _create_bases()
    _create_aliases()
    _create_adapters()
    _create_recipes()
    _create_compositions()


def downgrade() -> None:
    for table in (
        "composition_versions",
        "compositions",
        "recipe_ingredients",
        "recipes",
        "artifacts",
        "adapter_versions",
        "adapters",
        "alias_moves",
        "aliases",
        "base_aliases",
        "bases",
        "names",
    ):
        op.drop_table(table)  # with its indexes


def _create_names() -> None:
    op.create_table(
        "names",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('adapter', 'base', 'composition')", op.f("ck_names_kind")),
        sa.PrimaryKeyConstraint("name", name="pk_names"),
    )


def _create_bases() -> None:
    op.create_table(
        "bases",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("architecture", sa.Text(), nullable=True),
        sa.Column("shapes", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["name"], ["names.name"], "fk_bases_name_names"),
        sa.PrimaryKeyConstraint("name", name="pk_bases"),
    )
    op.create_table(
        "base_aliases",
        sa.Column("key", sa.String(500), nullable=False),
        sa.Column("base", _NAME, nullable=False),
        sa.ForeignKeyConstraint(["base"], ["bases.name"], "fk_base_aliases_base_bases"),
        sa.PrimaryKeyConstraint("key", name="pk_base_aliases"),
    )
    op.create_index("ix_base_aliases_base", "base_aliases", ["base"])


def _create_aliases() -> None:
    op.create_table(
        "aliases",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("alias", _NAME, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("moved_at", _MOMENT, nullable=False),
        sa.Column("moved_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["name"], ["names.name"], "fk_aliases_name_names"),
        sa.PrimaryKeyConstraint("name", "alias", name="pk_aliases"),
    )
    op.create_table(
        "alias_moves",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("alias", _NAME, nullable=False),
        sa.Column("from_number", sa.Integer(), nullable=True),
        sa.Column("to_number", sa.Integer(), nullable=False),
        sa.Column("moved_at", _MOMENT, nullable=False),
        sa.Column("moved_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["name"], ["names.name"], "fk_alias_moves_name_names"),
        sa.PrimaryKeyConstraint("id", name="pk_alias_moves"),
    )
    op.create_index("ix_alias_moves_name", "alias_moves", ["name"])


def _create_adapters() -> None:
    op.create_table(
        "adapters",
        sa.Column("name", _NAME, nullable=False),
        sa.ForeignKeyConstraint(["name"], ["names.name"], "fk_adapters_name_names"),
        sa.PrimaryKeyConstraint("name", name="pk_adapters"),
    )
    op.create_table(
        "adapter_versions",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("base", _NAME, nullable=False),
        sa.Column("base_said", sa.Text(), nullable=True),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("modules", sa.JSON(), nullable=False),
        sa.Column("use_rslora", sa.Boolean(), nullable=False),
        sa.Column("dtypes", sa.JSON(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("norm", sa.Double(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("licence", sa.Text(), nullable=True),
        sa.Column("card", sa.Text(), nullable=True),
        sa.Column("report", sa.JSON(), nullable=False),
        *_version_columns("adapter_versions"),
        sa.ForeignKeyConstraint(["name"], ["adapters.name"], "fk_adapter_versions_name_adapters"),
        sa.ForeignKeyConstraint(["base"], ["bases.name"], "fk_adapter_versions_base_bases"),
        sa.UniqueConstraint("name", "number", name="uq_adapter_versions_name_number"),
        sa.UniqueConstraint("name", "digest", name="uq_adapter_versions_name_digest"),
    )
    op.create_index("ix_adapter_versions_base", "adapter_versions", ["base"])
    op.create_index("ix_adapter_versions_digest", "adapter_versions", ["digest"])


def _create_recipes() -> None:
    op.create_table(
        "artifacts",
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_artifacts"),
    )
    op.create_table(
        "recipes",
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("base", _NAME, nullable=False),
        sa.Column("artifact", _DIGEST, nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["base"], ["bases.name"], "fk_recipes_base_bases"),
        sa.ForeignKeyConstraint(
            ["artifact"], ["artifacts.digest"], "fk_recipes_artifact_artifacts"
        ),
        sa.PrimaryKeyConstraint("digest", name="pk_recipes"),
    )
    op.create_index("ix_recipes_artifact", "recipes", ["artifact"])
    op.create_table(
        "recipe_ingredients",
        sa.Column("recipe_digest", _DIGEST, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recipe_digest"], ["recipes.digest"], "fk_recipe_ingredients_recipe_digest_recipes"
        ),
        sa.PrimaryKeyConstraint("recipe_digest", "position", name="pk_recipe_ingredients"),
    )
    op.create_index("ix_recipe_ingredients_digest", "recipe_ingredients", ["digest"])


def _create_compositions() -> None:
    op.create_table(
        "compositions",
        sa.Column("name", _NAME, nullable=False),
        sa.ForeignKeyConstraint(["name"], ["names.name"], "fk_compositions_name_names"),
        sa.PrimaryKeyConstraint("name", name="pk_compositions"),
    )
    table = "composition_versions"
    op.create_table(
        table,
        sa.Column("name", _NAME, nullable=False),
        sa.Column("expression", sa.Text(), nullable=False),
        sa.Column("recipe_digest", _DIGEST, nullable=False),
        *_version_columns(table),
        sa.ForeignKeyConstraint(["name"], ["compositions.name"], f"fk_{table}_name_compositions"),
        sa.ForeignKeyConstraint(
            ["recipe_digest"], ["recipes.digest"], f"fk_{table}_recipe_digest_recipes"
        ),
        sa.UniqueConstraint("name", "number", name=f"uq_{table}_name_number"),
        sa.UniqueConstraint("name", "recipe_digest", name=f"uq_{table}_name_recipe_digest"),
    )
    op.create_index(f"ix_{table}_recipe_digest", table, ["recipe_digest"])


def _version_columns(table: str) -> tuple[sa.schema.SchemaItem, ...]:
    return (
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("retired_at", _MOMENT, nullable=True),
        sa.Column("retired_by", sa.Text(), nullable=True),
        sa.CheckConstraint("number >= 1", op.f(f"ck_{table}_number")),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
    )
