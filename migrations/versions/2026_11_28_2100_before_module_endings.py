"""The modules that versions update, in tables of their own, so that a filter need not read JSON.

Revision: 2026_11_28_2100, after 2026_11_28_1700.

Versions that update the same modules share one set. A set is stored once, under every ending of
its modules' names, in lower case: `q_proj`, `self_attn.q_proj`, and so on.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "2026_11_28_2100"
down_revision = "2026_11_28_1700"
branch_labels = None
depends_on = None

_ROWS_AT_ONCE = 500
_LONGEST = 500
_SHA256 = sa.String(64)
_versions = sa.table("adapter_versions", sa.column("id"), sa.column("modules", sa.JSON()))
_sets = sa.table("version_modules", sa.column("version_id"), sa.column("module_set"))
_endings = sa.table("module_endings", sa.column("module_set"), sa.column("ending"))


def upgrade() -> None:
    op.create_table(
        "module_endings",
        sa.Column("module_set", _SHA256, nullable=False),
        sa.Column("ending", sa.String(_LONGEST), nullable=False),
        sa.PrimaryKeyConstraint("module_set", "ending", name="pk_module_endings"),
    )
    op.create_index("ix_module_endings_ending", "module_endings", ["ending"])
    op.create_table(
        "version_modules",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("module_set", _SHA256, nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["adapter_versions.id"],
            "fk_version_modules_version_id_adapter_versions",
        ),
        sa.PrimaryKeyConstraint("version_id", name="pk_version_modules"),
    )
    _fill()


def downgrade() -> None:
    op.drop_table("version_modules")
    op.drop_table("module_endings")


def _fill() -> None:
    connection, known, last = op.get_bind(), set[str](), 0
    while rows := connection.execute(
        sa.select(_versions.c.id, _versions.c.modules)
        .where(_versions.c.id > last)
        .order_by(_versions.c.id)
        .limit(_ROWS_AT_ONCE)
    ).all():
        last = rows[-1][0]
        for version, modules in rows:
            _add(connection, known, version, modules)


def _add(
    connection: sa.Connection, known: set[str], version: int, modules: Mapping[str, Any]
) -> None:
    names = sorted({name.lower() for name in modules})
    module_set = hashlib.sha256("\n".join(names).encode()).hexdigest()
    endings = sorted(set(_endings_of(names)))
    if endings and module_set not in known:
        known.add(module_set)
        values = [{"module_set": module_set, "ending": ending} for ending in endings]
        connection.execute(sa.insert(_endings), values)
    connection.execute(sa.insert(_sets), [{"version_id": version, "module_set": module_set}])


def _endings_of(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        parts = name.split(".")
        endings = (".".join(parts[start:]) for start in range(len(parts)))
        yield from (ending for ending in endings if len(ending) <= _LONGEST)
